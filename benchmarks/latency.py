"""Milliseconds per text, cold start and size of a run's student and of its exports, beside what people use instead.

    python benchmarks/latency.py RUN [RUN ...] [--texts 1000] [--transformer FOLDER]

``--transformer`` names a folder with a sentence transformer such as MiniLM. model2vec distills it, and SetFit
fine-tunes it on one pair of each kind for a text. Both must be installed (``model2vec[distill]``, ``setfit``).

Every contender classifies the run's test texts, from the text on, in a process of its own with one thread. The cold
start is the CPU time from starting Python to the first label.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from qkd import Run, Student
from qkd.student.metrics import proportion

REPEATS = 3
TEACHER_TEXTS = 40
# Runs in the contender's process: the preparation defines `classify`, a function from texts to labels.
PROGRAM = """
import json, sys, time
payload = json.load(open(sys.argv[1]))
train, labels, texts = payload["train"], payload["labels"], payload["texts"]
{preparation}
classify(texts[:8])
times = []
for _ in range({repeats}):
    started = time.process_time()
    answers = classify(texts)
    times.append(time.process_time() - started)
# Not getrusage: its maximum includes the process that started this one.
memory = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
print(json.dumps({{"seconds": min(times), "answers": [str(answer) for answer in answers], "memory": memory}}))
"""
STUDENT = "from qkd import Student\nclassify = Student.load({folder!r}).predict"
TEACHER = """
from qkd import Run
from qkd.pipeline.inputs import _fitted_teacher
run = Run({run!r})
classes = run.student.classes
teacher = _fitted_teacher(run.folder, classes)
classify = lambda texts: [classes[i] for i in teacher.predict_logits(texts).argmax(axis=1)]
"""
EXPORT = "sys.path.insert(0, {folder!r})\nfrom classify import predict as classify"
LOGREG = """
from qkd import Student
from sklearn.linear_model import LogisticRegression
encoder = Student.load({folder!r}).encoder
fitted = LogisticRegression(max_iter=1000).fit(encoder.encode(train), labels)
classify = lambda texts: fitted.predict(encoder.encode(texts))
"""
TFIDF = """
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
classify = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10)).fit(train, labels).predict
"""


MODEL2VEC = """
from model2vec.distill import distill_from_model
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel, AutoTokenizer
model = distill_from_model(AutoModel.from_pretrained({folder!r}), AutoTokenizer.from_pretrained({folder!r}))
fitted = LogisticRegression(max_iter=1000).fit(model.encode(train), labels)
classify = lambda texts: fitted.predict(model.encode(texts))
"""
SETFIT = """
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.linear_model import LogisticRegression
body = Transformer({folder!r})
body = SentenceTransformer(modules=[body, Pooling(body.get_word_embedding_dimension())], device="cpu")
model = SetFitModel(body, LogisticRegression(max_iter=1000), labels=sorted(set(labels)))
data = Dataset.from_dict({{"text": train, "label": [sorted(set(labels)).index(label) for label in labels]}})
arguments = TrainingArguments(num_iterations=1, num_epochs=1, batch_size=16, report_to="none", save_strategy="no")
Trainer(model, arguments, train_dataset=data).train()
classify = lambda texts: [str(label) for label in model.predict(texts)]
"""


def measure(preparation: str, payload: Path) -> dict[str, Any] | None:
    """Return seconds, answers and memory (MB) of a contender, or None where it cannot run."""
    code = PROGRAM.format(preparation=preparation, repeats=REPEATS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([sys.executable, "-c", code, str(payload)], env=environment, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1], file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def cold_start(command: list[str]) -> float:
    """Return the median CPU time, seconds, of a command that classifies one text."""
    times = []
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times)


def megabytes(folder: Path) -> float:
    """Return the size of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def contenders(
    run: Run, folder: Path, texts: list[str], transformer: Path | None
) -> list[tuple[str, str, list[str], Path | None]]:
    """Return name, preparation, cold-start command and folder of each contender."""
    student, bundle = run.student, str(run.folder.student)
    command = [sys.executable, "-m", "qkd", "predict", "a text", "--run", bundle]
    found: list[tuple[str, str, list[str], Path | None]] = [
        ("teacher", TEACHER.format(run=str(run.folder.path)), [], None),
        ("student (torch)", STUDENT.format(folder=bundle), command, run.folder.student),
    ]
    for name, kind, options in (
        ("numpy", "numpy", {}),
        ("numpy int8", "numpy", {"int8": True}),
        ("onnx", "onnx", {}),
        ("onnx int8", "onnx", {"int8": True}),
    ):
        out = folder / name.replace(" ", "-")
        try:
            student.export(out, kind, texts=texts[:200], **options)
        except Exception as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        found.append((name, EXPORT.format(folder=str(out)), [sys.executable, str(out / "classify.py"), "a text"], out))
    found.append(("logreg, same embeddings", LOGREG.format(folder=bundle), [], None))
    found.append(("TF-IDF with logreg", TFIDF, [], None))
    if transformer is not None:
        found.append(("model2vec with logreg", MODEL2VEC.format(folder=str(transformer)), [], None))
        found.append(("SetFit", SETFIT.format(folder=str(transformer)), [], None))
    return found


def page_milliseconds(student: Student, folder: Path, texts: list[str]) -> str:
    """Return a table row of the page's own code in node."""
    try:
        out = student.export(folder / "page", "page", check=False).folder
    except Exception as error:
        return f"| page | - | - | - | - | ({error}) |"
    code = (
        "const fs = require('fs'), html = fs.readFileSync(process.argv[1], 'utf8');"
        "const parts = [...html.matchAll(/<script[^>]*>([\\s\\S]*?)<\\/script>/g)].map((match) => match[1]);"
        "const make = new Function(parts[1] + '; return makeClassifier;')();"
        "const { classify } = make(JSON.parse(parts[0])), texts = JSON.parse(fs.readFileSync(0, 'utf8'));"
        "texts.forEach(classify); const start = performance.now(); texts.forEach(classify);"
        "console.log((performance.now() - start) / texts.length);"
    )
    command = ["node", "-e", code, str(out / "index.html")]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True)
    return (
        f"| page (node) | {float(done.stdout):.3f} | {1e3 / float(done.stdout):,.0f} | - | {megabytes(out):.2f} | - | |"
    )


def main() -> None:
    """Print one table for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--transformer", type=Path)
    arguments = parser.parse_args()
    for path in arguments.runs:
        run = Run(path)
        # The rows are in the order of the data, which may be sorted by label.
        rows = [run.predictions[i] for i in np.random.default_rng(0).permutation(len(run.predictions))]
        texts, labels = [row.text for row in rows], [row.label for row in rows]
        repeated = (texts * (1 + arguments.texts // len(texts)))[: arguments.texts]
        half = len(texts) // 2
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            payload = folder / "payload.json"
            # Baselines are fitted on half of the test texts, and every accuracy is that on the other half.
            print(f"\n{path}: encoder {run.student.encoder.name}, {len(repeated):,} texts\n")
            print("| contender | ms per text | texts/s | cold start, CPU ms | MB on disk | MB in memory | accuracy |")
            print("| --- | --- | --- | --- | --- | --- | --- |")
            for title, preparation, command, where in contenders(run, folder, texts, arguments.transformer):
                used = repeated[:TEACHER_TEXTS] if title == "teacher" else repeated
                payload.write_text(json.dumps({"train": texts[:half], "labels": labels[:half], "texts": used}))
                result = measure(preparation, payload)
                if result is None:
                    continue
                seconds = float(result["seconds"]) / len(used)
                judged = range(half, min(len(texts), len(used)))
                hits = np.array([result["answers"][i] == labels[i] for i in judged])
                accuracy = proportion(hits) if len(hits) else "-"
                start = f"{1e3 * cold_start(command):.0f}" if command else "-"
                size = f"{megabytes(where):.2f}" if where else "-"
                print(
                    f"| {title} | {1e3 * seconds:.3f} | {1 / seconds:,.0f} | {start} | {size} | {result['memory']:.0f} "
                    f"| {accuracy} |"
                )
            print(page_milliseconds(run.student, folder, repeated))


if __name__ == "__main__":
    main()
