"""Over 800 wrong calls of public functions and classes: each ends with one sentence, none with a library's error."""

from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.providers.fake_provider import GenericBackendV2
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import qkd
from qkd import QkdError
from qkd.core.config import EngineSpec

DISTILL = """
    3 | "texts.csv" | {"train": {"epochs": 3}} | qkd.Config
"""
"""Values that are no configuration."""

SETTINGS = """
    resume="yes" | epoch=3 | epochs=-1 | epochs=1.5 | epochs="three" | epochs=None | epochs=nan | epochs=[3]
    lr=nan | lr=0 | lr="fast" | lr=1j | qubits=0 | qubits=10**9 | qubits=1.5 | layers=-1 | batch_size=0 | dropout=1
    temperature=0 | alpha=2 | valid=0 | valid=0.6, test=0.6 | seed="a" | seed=2**80 | seed=-1 | patience=0
    margin=-1 | sim="ideal" | engine="gpu" | torch_device="tpu" | torch_device=3 | precision="half" | shots=0
    accuracy=1 | max_hours=0 | max_hours=1e-12 | runs=3 | runs=FILE | name="a/b" | name="" | name=3 | name="latest"
    track="excel" | track=3 | callbacks=3 | callbacks=[3] | quiet="no" | resume=True, name="nowhere" | limit=0
    limit=3 | text_column="nope" | text_column=3 | text_column="label" | test_data="nowhere.csv"
    unlabeled="nowhere.txt" | unlabeled=3 | tune_encoder=1 | split_seed=None | prompt=3
    data=None | data=3 | data="nowhere.csv" | data=Path("nowhere.parquet") | data="hf:" | data="" | data="a\\0b"
    data=[] | data={} | data=() | data=(T,) | data=(T, Y, Y) | data=(T, Y[:-1]) | data=([], []) | data=(X, Y[:-1])
    data=(X, Y, X[:, :3]) | data=(X * nan, Y) | data=(X[0], Y) | data=(None, Y) | data=(3, 4) | data=(X, None)
    data=(X.astype(str), Y) | data=pd.DataFrame() | data=table.text | data=table.rename(columns={"text": "t"})
    data=table[:3] | data=table.assign(label="x") | data=table.assign(label=None) | data=table.assign(text="")
    data=pd.concat([table, table], axis=1) | data={"text": T} | data={"text": T, "label": Y[:-1]} | data=iter(T)
    data=set(T) | data=T | data=X | data=b"texts.csv" | data=(X, Y), encoder="hashing"
    data=(X, Y, X), teacher="probe:x" | teacher=None | teacher=3 | teacher="" | teacher="magic:x" | teacher="probe:"
    teacher="logits:nowhere.npz" | teacher=[] | teacher=[3] | teacher="object:f" | teacher=object() | teacher=str
    teacher=lambda: 0 | teacher=lambda texts: None | teacher=lambda texts: "ab"
    teacher=lambda texts: np.ones((len(texts), 1)) | teacher=lambda texts: np.ones((len(texts), 4)) * 1j
    teacher="features:logreg" | teacher=FILE | encoder=None | encoder=3 | encoder="" | encoder="hashing:x"
    encoder="hashing:0" | encoder="nowhere/model" | encoder="features:x" | encoder="features:4" | encoder="object:f"
    encoder=object() | encoder=lambda texts: texts | encoder=lambda texts: X * nan | encoder=lambda: 0 | encoder=str
    encoder=["hashing", "minilm"] | encoder="a" * 300 | encoder="hf/" + "a" * 300 | circuit="a" * 300
    data="a" * 300 | data="hf:" + "a" * 300 | teacher="a" * 300 | teacher="probe:" + "a" * 300
    circuit=None | circuit="nowhere" | circuit="nowhere.qasm"
    circuit=Path("x.toml") | circuit=3 | circuit=FILE | circuit=qc, inputs=[] | circuit=qc, inputs=3
    circuit=qc, inputs=["nope"] | circuit=qc, inputs=[3] | circuit=qc | circuit=measured, inputs="x"
    circuit=circuit, inputs="x" | inputs="x" | inputs=3 | circuit=qc, qubits=5, inputs=x | loss=None | loss="mse"
    loss=3 | loss=lambda: 0 | loss=lambda s, t, y: 0.0 | loss=lambda s, t, y: s | loss=str
    sim="aer-noisy", device=3 | sim="aer-noisy", device="ibm_nowhere" | device="fake_fez" | layout=[0, 1]
    sim="aer-noisy", device="fake_manila", layout=[0, 0] | sim="aer-noisy", device="fake_manila", layout=["a"]
    sim="aer-noisy", device="fake_manila", layout=[98, 99] | sim="aer-noisy", device="fake_manila", profile="nope"
    sim="aer-noisy", device="fake_manila", layout=3 | sim="aer-noisy", device=GenericBackendV2
"""
"""Settings of ``qkd.distill`` that are wrong."""

CALLS = """
    qkd.Run(3) | qkd.Run(None) | qkd.Run("nowhere") | qkd.Run("a\\0b") | qkd.Run(FOLDER) | qkd.Run(run=3)
    qkd.Run("\\ud800") | S.save("\\ud800") | S.save_pretrained("\\ud800") | S.export("\\ud800")
    qkd.Student.load("nowhere") | qkd.Student.load("a" * 300) | qkd.Run("a" * 300) | S.save("a" * 300)
    S.export(FOLDER / "tables", texts=pd.DataFrame({"a": T})) | qkd.predict(pd.DataFrame({"a": T}), run=RUN)
    S.predict(pd.DataFrame({"a": T})) | qkd.transpile(RUN, device="a" * 300)
    qkd.Student.load(3) | qkd.Student.load(None) | qkd.Student.load(FOLDER)
    qkd.Student.load(RUN, engine="exact") | qkd.Student.load(RUN, encoder=lambda texts: X) | qkd.Student.load(FILE)
    qkd.Student.from_pretrained(3) | qkd.Student.from_pretrained("a b") | qkd.Student.from_pretrained("")
    S.predict("a text") | S.predict(3) | S.predict(None) | S.predict([3]) | S.predict([None]) | S.predict(X)
    S.predict_proba([["a"]]) | S.logits([b"a"]) | S.logits({"a": 1}.items()) | S.defer(T, risk=2)
    S.defer(T, risk="a") | S.defer(T, risk=nan) | S.defer(T, confidence=0) | S.defer("a") | S.defer(T, validation=3)
    S.defer(T, validation=(T, Y[:-1])) | S.defer(T, validation=(T, ["x"] * len(T))) | S.save(None) | S.save(3)
    S.save(FILE) | S.export(FOLDER / "e", "exe") | S.export(3) | S.export(FOLDER / "e", texts="ab") | S.export(RUN)
    S.export(FOLDER / "e", foo=1) | S.export(FOLDER / "e", inputs="tokens") | S.classical(-1) | S.classical("a")
    S.push_to_hub(3) | S.push_to_hub("a/b/c") | S.export(FOLDER / "e", texts=[3]) | qkd.evaluate(3)
    qkd.evaluate("nowhere") | qkd.evaluate(RUN, data="nowhere.csv") | qkd.evaluate(RUN, data=3)
    qkd.evaluate(RUN, data=(T, ["other"] * len(T))) | qkd.evaluate(RUN, data=table, text_column="x")
    qkd.evaluate(RUN, text_column=3) | qkd.evaluate(RUN, quiet=3) | qkd.evaluate(S) | qkd.evaluate(RUN, data=(X, Y))
    qkd.predict() | qkd.predict(3) | qkd.predict([3]) | qkd.predict(T, run="nowhere") | qkd.predict(T, run=3)
    qkd.predict(file="nowhere.txt", run=RUN) | qkd.predict(T, run=RUN, defer=2) | qkd.predict(T, run=RUN, defer="a")
    qkd.predict(T, run=RUN, defer=nan) | qkd.predict(X, run=RUN) | qkd.predict(file=3) | qkd.predict(None)
    qkd.compare("nowhere") | qkd.compare(3) | qkd.compare(spec=3) | qkd.compare(epochs=-1) | qkd.compare(ray=3)
    qkd.compare(spec=qkd.CompareSpec(students=("nowhere", "linear"))) | qkd.compare(teacher=3) | qkd.compare(FILE)
    qkd.sweep(spec="x") | qkd.sweep("nowhere.toml") | qkd.sweep(spec=qkd.SweepSpec(over=("foo=1..2",)))
    qkd.sweep(spec=qkd.SweepSpec(over=("qubits=0..2",))) | qkd.sweep(encoder=3) | qkd.reproduce("other")
    qkd.reproduce(seeds=0) | qkd.reproduce(seeds="a") | qkd.reproduce(students="hardware")
    qkd.reproduce(deviations=["x"]) | qkd.reproduce(tune=-1) | qkd.reproduce(base="x") | qkd.teach() | qkd.teach(3)
    qkd.teach("x.csv") | qkd.teach(None) | qkd.teach(FOLDER / "a.parquet", data="nowhere.csv")
    qkd.teach(FOLDER / "a.parquet", embed="yes") | qkd.teach(FOLDER / "a.parquet", data=table, teacher=3)
    qkd.CompareSpec(students=("hardware",)) | qkd.CompareSpec(seeds=0) | qkd.CompareSpec(foo=1)
    qkd.SweepSpec(trials=0) | qkd.SweepSpec(over=()) | qkd.Config(train={"epochs": 0}) | qkd.Config(foo={})
    qkd.Config(train=3) | qkd.hardware.DeviceRunRequest(shots=0) | qkd.hardware.LearningRequest(points=1)
    qkd.run_hardware("nowhere", **LOCAL) | qkd.run_hardware(3, **LOCAL) | qkd.run_hardware(RUN, device="ibm_fez")
    qkd.run_hardware(RUN, device="ibm_nowhere", local=True) | qkd.run_hardware(RUN, device=3, local=True)
    qkd.run_hardware(RUN, mitigation="magic", **LOCAL) | qkd.run_hardware(RUN, shots=0, **LOCAL)
    qkd.run_hardware(RUN, shots="many", **LOCAL) | qkd.run_hardware(RUN, samples=-1, **LOCAL)
    qkd.run_hardware(RUN, target_stderr=-1, **LOCAL) | qkd.run_hardware(RUN, confirm=3, **LOCAL)
    qkd.run_hardware(RUN, dry_run="a", **LOCAL) | qkd.run_hardware(RUN, backend=3)
    qkd.run_hardware(RUN, service=3) | qkd.run_hardware(RUN, device="fake_manila", local="maybe")
    qkd.run_hardware(RUN, mode="x", **LOCAL) | qkd.run_hardware(RUN, decoupling="x", **LOCAL)
    qkd.run_hardware(RUN, profile="x", **LOCAL) | qkd.run_hardware(RUN, file="nowhere.txt", **LOCAL)
    qkd.run_hardware(RUN, sample=3, **LOCAL)
    qkd.run_hardware(RUN, backend=backend, mitigation="zne", dry_run=True)
    qkd.run_hardware(RUN, learned="x", **LOCAL) | qkd.run_hardware(RUN, backend=backend, service=client)
    qkd.run_hardware(RUN, callbacks=[3], **LOCAL) | qkd.learn() | qkd.learn(3)
    qkd.learn("fake_manila", RUN, points=3, local=True) | qkd.learn("ibm_nowhere", RUN, local=True)
    qkd.transpile("nowhere", "fake_manila") | qkd.transpile("hardware", "ibm_nowhere")
    qkd.transpile(3, "fake_manila") | qkd.transpile("hardware", 3)
    qkd.transpile("hardware", "fake_manila", qubits=99) | qkd.transpile()
    qkd.transpile("hardware", "fake_manila", qubits=-1) | qkd.transpile("hardware", "fake_manila", profile=3)
    qkd.transpile("hardware", "fake_manila", qubits=3, layout=[0, 0, 0])
    qkd.transpile(qc, "fake_manila", inputs=["nope"])
    qkd.transpile("hardware", "fake_manila", qubits=3, layout="x")
    qkd.transpile("hardware", "fake_manila", profile="x")
    qkd.transpile("hardware", "fake_manila", settings={"x": 1})
    qkd.transpile("hardware", "fake_manila", settings=3) | qkd.transpile(qc, "fake_manila", inputs=x, observables=3)
    qkd.transpile("hardware", "fake_manila", inputs=["x"])
    qkd.transpile(qc, "fake_manila", inputs=x, observables=["Z"])
    qkd.transpile("hardware", "fake_manila", qubit=3) | qkd.circuits.load("nowhere") | qkd.circuits.load(3)
    qkd.circuits.load("hardware", qubits=0) | qkd.circuits.load("hardware", qubits="a")
    qkd.circuits.load("hardware", layers=-1) | qkd.circuits.load(FILE) | qkd.circuits.from_qasm("nonsense")
    qkd.circuits.from_qasm(3) | qkd.circuits.to_qasm(3) | qkd.circuits.to_qasm(qc)
    qkd.circuits.StudentCircuit(qc, (), (), ()) | qkd.circuits.StudentCircuit(3, (), (), ())
    qkd.circuits.StudentCircuit(qc, x, 3, ()) | qkd.circuits.StudentCircuit(qc, x, w, (3,))
    qkd.circuits.CircuitSpec(qubits=0) | qkd.devices.load(3) | qkd.devices.load("nowhere") | qkd.devices.load(None)
    qkd.devices.load("nowhere.json") | qkd.devices.save(3) | qkd.devices.save(backend, FILE) | qkd.devices.find(3)
    qkd.devices.find("nowhere") | qkd.devices.load_profile(3) | qkd.devices.load_profile("x")
    qkd.devices.noise_model(3) | qkd.devices.to_region(3, 3) | qkd.devices.table(3) | qkd.devices.write(3, 4)
    qkd.devices.hidden_device(3, 0) | qkd.data.load(3) | qkd.data.load("nowhere.csv") | qkd.data.load(RUN)
    qkd.data.split(3) | qkd.data.split(dataset, valid=2) | qkd.data.split(dataset, test="a")
    qkd.data.Dataset(T, Y[:-1]) | qkd.data.Dataset(3, 4) | qkd.data.load("docstrings", limit=0)
    qkd.encoders.make_encoder(3) | qkd.encoders.make_encoder("hashing:x") | qkd.encoders.embed_texts(3, T)
    qkd.encoders.embed_texts(S.encoder, "a") | qkd.encoders.embed_texts(S.encoder, [3])
    qkd.encoders.make_encoder(None) | qkd.teachers.make_teacher(3) | qkd.teachers.make_teacher("x:y")
    qkd.teachers.make_teacher([]) | qkd.teachers.make_teacher("a") | qkd.export.export_student(3, FOLDER)
    qkd.export.export_student(S, FOLDER / "e", "exe") | qkd.export.export_student(S)
    qkd.simulation.make_engine(3, circuit) | qkd.simulation.make_engine(EngineSpec(), 3)
    qkd.simulation.check_circuit(3) | qkd.simulation.choose(3, None, 0.1) | qkd.simulation.linear_response(3)
    qkd.simulation.check_circuit(circuit, points=0) | qkd.hardware.collect("nowhere") | qkd.hardware.collect(3)
    qkd.hardware.cancel(RUN, "hw-9") | qkd.hardware.list_jobs("nowhere") | qkd.hardware.rank_devices(RUN, 3)
    qkd.hardware.rank_devices("nowhere", []) | qkd.hardware.cancel(RUN, 3)
    qkd.hardware.list_jobs(3) | qkd.hardware.rank_devices(RUN, []) | qkd.hardware.collect(RUN, name=3)
"""
"""Calls that are wrong."""

MORE = """
    qkd.Run(b"runs") | qkd.Run(Path("")) | qkd.Run("x" * 5000) | qkd.Run(RUN).to_frame("nope")
    qkd.Run(RUN).to_frame(3) | qkd.Run(RUN).plot_confusion(ax=3) | qkd.Run(RUN).plot_learning("ax")
    qkd.Run(RUN, "x") | qkd.Student(3, S.encoder) | qkd.Student(S.model, "hashing:8")
    qkd.Student(S.model, S.encoder, about="x") | qkd.Student(S.model, S.encoder, hashes=[1])
    qkd.Student.load(RUN / "config.toml") | qkd.Student.load({}) | qkd.Student.load(RUN, allow_download="no")
    qkd.Student.from_pretrained("org/name", revision=3) | qkd.Student.from_pretrained(RUN, encoder=3)
    S.predict(np.zeros((2, 8))) | S.predict(pd.DataFrame()) | S.predict(T[0]) | S.predict([T])
    S.predict_proba(float("inf")) | S.logits(object()) | S.predict(np.array([1, 2])) | S.save("")
    S.save(FOLDER / "s", check_texts="a") | S.save(FOLDER / "s", check_texts=[3])
    S.save(FOLDER / "s", encoder="yes") | S.push_to_hub("a/b", private="no") | S.push_to_hub("")
    S.push_to_hub("a/b", message=3) | S.to_frame("x") | S.plot_circuit(ax=T) | S.classical(tolerance=nan)
    S.classical(None) | S.defer(T, ask=3) | S.defer(T, risk=0.1, ask=lambda texts: 3)
    S.defer(T, validation=(T, Y, T)) | S.defer(3) | S.defer(T, confidence="a")
    S.export(FOLDER / "e", "onnx", inputs=3) | S.export(FOLDER / "e", check="x")
    S.export(FOLDER / "e", "page", tokens=3) | qkd.evaluate(RUN, data=table, label_column="text") | qkd.evaluate(None)
    qkd.evaluate(RUN, data=[]) | qkd.evaluate(RUN, data=table[:0]) | qkd.evaluate(RUN, data=(T, Y[:-2]))
    qkd.evaluate(RUN, data=iter(T)) | qkd.evaluate(RUN, data=table.assign(label=3))
    qkd.evaluate(S, data=np.zeros(3)) | qkd.evaluate(S, data=(np.zeros((3, 2)), Y[:3])) | qkd.evaluate(RUN, T)
    qkd.evaluate(RUN, {"text": T}) | qkd.predict(T, RUN / "report.html", run=RUN)
    qkd.predict(np.zeros((2, 2, 2)), run=RUN) | qkd.predict({"a": 1}, run=RUN)
    qkd.predict(T, run=RUN, text_column=3) | qkd.predict(T, run=RUN, defer=-0.1)
    qkd.predict(T, run=S, ask_teacher=True) | qkd.predict(T, run=RUN, ask_teacher="x") | qkd.predict([None], run=S)
    qkd.predict(T, run=RUN, defer=True) | D(bundle_encoder="x")
    D(bundle_encoder=True, encoder=lambda texts: np.zeros((len(texts), 2))) | D(alpha=None)
    D(continue_from="nowhere") | D(continue_from=3) | D(continue_from=RUN, data=table, qubits=5)
    D(continue_from=FILE) | D(split_column="label", group_column="text") | D(split_column="nope")
    D(time_column="label") | D(group_column=3) | D(api_url="http://a:b@c") | D(price="1,2") | D(price="x", max_cost=1)
    D(max_cost=-1.0) | D(api_source="magic") | D(prompt="nowhere.toml", teacher="prompt:nowhere") | D(examples=-1)
    D(teacher=["a", 3]) | D(teacher=(lambda texts: texts,)) | D(dtype="float8")
    D(quantize="2bit") | D(lora_depth=0) | D(encoder=np.zeros(3)) | D(encoder="hashing:8+") | D(encoder="+")
    D(encoder="hashing:8?x=1") | D(encoder=b"minilm") | D(encoder="static:") | D(circuit=b"hardware") | D(circuit="")
    D(circuit=lambda: 0) | D(circuit=[qc], inputs=x) | D(circuit=qc, inputs=[x]) | D(circuit=qc, inputs={"x": 1})
    D(circuit=qc, inputs=x + w) | D(circuit=qc, inputs=x[:1] * 2) | D(angle_map="sigmoid") | D(spread_seeds=-1)
    D(controls=None) | D(train_shots=-3) | D(shuffle=2.5) | D(loss=lambda s, t, y: (s * 0).sum() * nan)
    D(loss=lambda s, t, y: s.detach().sum()) | D(loss=("qdllm",)) | D(loss="") | D(loss=lambda s: s.sum())
    D(valid=1.0) | D(test=-0.1) | D(split_seed=1.5) | D(limit="all") | D(trajectories=1) | D(truncation=1.0)
    D(gradient="adjoint", engine="aer") | D(max_hours=nan) | D(engine_seed=-1) | D(torch_device="") | D(resume=1)
    D(resume=True, runs=FILE) | D(runs="\\0") | D(name="x" * 500) | D(name="..") | D(track=["a", 3]) | D(**{"": 1})
    qkd.compare(RUN, spec=qkd.CompareSpec(students=("linear",), train_texts=(0,))) | qkd.compare(RUN, 3)
    qkd.compare(b"x") | qkd.compare(spec=qkd.CompareSpec(students=("linear", "linear")))
    qkd.compare(ray="nowhere:1", **{"epochs": 0}) | qkd.sweep(RUN, qkd.SweepSpec(over=("lr=2..1",)))
    qkd.sweep(RUN, qkd.SweepSpec(over=("data=a,b",))) | qkd.sweep(3) | qkd.sweep(RUN, qkd.SweepSpec(over=("lr",)))
    qkd.sweep(RUN, qkd.SweepSpec(over=("lr=a..b",))) | qkd.sweep(RUN, trials=2) | qkd.reproduce(3)
    qkd.reproduce(students=[3]) | qkd.reproduce(deviations="js") | qkd.reproduce(circuit="nowhere")
    qkd.teach(FOLDER) | qkd.teach(FOLDER / "a.txt", data=table) | qkd.teach(FOLDER / "a.parquet", config=3)
    qkd.teach({}) | qkd.run_hardware(RUN, device=[], local=True)
    qkd.run_hardware(RUN, backend=backend, device="ibm_fez", local=True) | qkd.run_hardware(RUN, samples=1.5, **LOCAL)
    qkd.run_hardware(RUN, seed=-1, **LOCAL) | qkd.run_hardware(RUN, 3, **LOCAL)
    qkd.run_hardware(RUN, backend=backend, shots=nan, local=True) | qkd.run_hardware(RUN, mitigation=3, **LOCAL)
    qkd.run_hardware(RUN, mitigation="none,", **LOCAL) | qkd.run_hardware(RUN, randomizations=0, **LOCAL)
    qkd.run_hardware(RUN, text_column=3, **LOCAL) | qkd.run_hardware(RUN, detach="x", **LOCAL)
    qkd.run_hardware(S, **LOCAL) | qkd.learn("fake_manila", FOLDER, local=True) | qkd.learn(backend, RUN, local=True)
    qkd.learn("fake_manila", RUN, shots=0, local=True) | qkd.learn("", RUN, local=True)
    qkd.transpile("hardware", None) | qkd.transpile(S, backend) | qkd.transpile(circuit, backend, layout=[7, 8])
    qkd.transpile(circuit, backend, layout=[-1, 0]) | qkd.transpile(measured, backend, inputs=x)
    qkd.transpile(circuit, "fake_manila", layers=3) | qkd.transpile(circuit, {}) | qkd.circuits.load("")
    qkd.circuits.load("hardware", layers="a") | qkd.circuits.load("hardware", inputs=3) | qkd.circuits.from_qasm("")
    qkd.circuits.from_qasm("OPENQASM 3.0; qubit q; x q;") | qkd.circuits.to_qasm(None)
    qkd.circuits.StudentCircuit(qc, x, w, ()) | qkd.circuits.StudentCircuit(qc, x, x, circuit.observables)
    qkd.devices.load("") | qkd.devices.load({}) | qkd.devices.save(backend, "a\\0b")
    qkd.devices.save(GenericBackendV2) | qkd.devices.noise_model(None) | qkd.devices.find("")
    qkd.devices.hidden_device("fake_manila", seed="a") | qkd.devices.load_profile("") | qkd.data.load("hf:")
    qkd.data.load("qdllm:nowhere") | qkd.data.load(FILE) | qkd.data.split(dataset, valid=nan)
    qkd.data.split(dataset, test=1) | qkd.data.Dataset(T, [None] * len(T)) | qkd.encoders.make_encoder("")
    qkd.encoders.make_encoder("hashing:8", torch_device=3) | qkd.encoders.embed_texts(S.encoder, [None])
    qkd.encoders.embed_texts(lambda texts: X, T) | qkd.teachers.make_teacher("logits:")
    qkd.teachers.make_teacher("api:") | qkd.teachers.make_teacher(("probe:x", 3)) | qkd.student.softmax([1, 2])
    qkd.student.softmax(np.zeros(3)) | qkd.student.score(X, np.zeros(3)) | qkd.student.score(X, Y)
    qkd.student.score(X[:0], np.zeros(0, int)) | qkd.student.risk_coverage([0.1], [True, False])
    qkd.student.risk_coverage(X, X) | qkd.reports.table(3) | qkd.reports.aligned([])
    qkd.reports.aligned([["a"], ["b", "c"]]) | qkd.reports.device_table([3])
    qkd.results.Estimate(value="a", low=0, high=1) | qkd.results.Metrics.from_dict({})
    qkd.results.Estimate.from_dict({"value": 1}) | qkd.results.Prediction(3) | qkd.results.Deferral()
    qkd.hardware.collect(RUN, service=3) | qkd.hardware.rank_devices(RUN, ["ibm_nowhere"])
    qkd.hardware.list_jobs(b"x") | qkd.hardware.DeviceRunRequest(mode="x")
    qkd.hardware.LearningRequest(foo=1) | qkd.simulation.make_engine(EngineSpec(), qc)
    qkd.simulation.check_circuit(qc) | qkd.Config(run={"name": 3})
"""
"""More calls that are wrong."""


OTHERS = """
    D(data=np.array(3)) | D(data=(np.array(3), Y)) | D(data=(torch.tensor(3), Y)) | D(data=(X, np.array(3)))
    D(data=(X.tolist(), Y, "ab")) | D(data=(X, Y, X, X)) | D(data=(X[:, :0], Y)) | D(data=(X[:0], []))
    D(data=(T, iter(Y)), label_column="text") | D(data=(X, [None] * 60)) | D(data=(X, [nan] * 60))
    D(data=([[1, 2], [3]], ["a", "b"])) | D(data=[{"text": "a"}, 3]) | D(data=[3, {"text": "a"}]) | D(data=(T, X))
    D(data=(T, [[y] for y in Y])) | D(data=(T, [{"a": 1}] * 60)) | D(data={"train": table, "test": table})
    D(data={"train": T}) | D(data=pd.DataFrame({("text", 1): T, ("label", 1): Y})) | D(data=table.set_index("text"))
    D(data=table.T) | D(data=table.groupby("label")) | D(data=table.assign(text=[b"a"] * 60))
    D(data=table.assign(text=[["a"]] * 60)) | D(data=table.assign(text=range(60)), text_column="texts")
    D(data=table, split_column="nope") | D(data=table, group_column="nope") | D(data=table, time_column="nope")
    D(data=table, split_column="text") | D(data=table, time_column="text")
    D(data=table.assign(g="one"), group_column="g") | D(data=table.assign(g=None), group_column="g")
    D(data=table.assign(g=1), time_column="g") | D(data=table.assign(s="train"), split_column="s", group_column="s")
    D(data=table, split_column=3) | D(data=table.assign(s=["train", "valid"] * 30), split_column="s", time_column="s")
    D(data=table, group_column="label", time_column="label") | D(data="docstrings", group_column="label")
    D(data=(T, Y), split_column="s") | D(data=table, test_data=3) | D(data=table, test_data=FILE)
    D(data=table, unlabeled=FOLDER) | D(data=table, unlabeled=table) | D(continue_from=FOLDER)
    D(continue_from=RUN, qubits=3) | D(continue_from=RUN, data="nowhere.csv")
    D(continue_from=RUN, data=table.assign(label="x"))
    D(continue_from=RUN, teacher=lambda texts: np.ones((len(texts), 9)))
    D(teacher=lambda texts: np.full((len(texts), 4), nan)) | D(teacher=lambda texts: [["a"] * 4] * len(texts))
    D(teacher=lambda texts: np.ones((3, 4))) | D(teacher=lambda texts: 1 / 0) | D(teacher=lambda texts: texts[10**9])
    D(teacher={}) | D(teacher=iter([])) | D(teacher=LogisticRegression()) | D(teacher=LogisticRegression)
    D(teacher=KMeans(2)) | D(teacher=make_pipeline(TfidfVectorizer(), KMeans(2))) | D(teacher=TfidfVectorizer())
    D(teacher=(lambda texts: np.ones((len(texts), 4)), 3)) | D(teacher=qkd.Config()) | D(teacher=S)
    D(teacher=np.ones((60, 4))) | D(teacher=torch.nn.Linear(2, 4)) | D(encoder=lambda texts: np.ones((len(texts), 0)))
    D(encoder=lambda texts: np.ones(len(texts))) | D(encoder=lambda texts: 1 / 0) | D(encoder=lambda texts: None)
    D(encoder=lambda texts: np.ones((1, 8)))
    D(encoder=lambda texts: np.random.default_rng().normal(size=(len(texts), 8)).astype(str))
    D(encoder=torch.nn.Linear(8, 2)) | D(encoder=TfidfVectorizer()) | D(encoder=S) | D(encoder=X)
    D(encoder=SimpleNamespace(encode=3)) | D(encoder=SimpleNamespace(encode=lambda texts: None))
    D(encoder=lambda texts: X, bundle_encoder=True) | D(encoder="hashing:8", tune_encoder=2)
    D(encoder="hashing:8?layers=2") | D(circuit=QuantumCircuit(2), inputs=[]) | D(circuit=QuantumCircuit(0), inputs=x)
    D(circuit=qc, inputs=(x[0], x[0])) | D(circuit=qc, inputs=w + x) | D(circuit=QuantumCircuit)
    D(circuit=qc.to_gate(), inputs=x) | D(circuit="hardware", inputs=x) | D(circuit=Path("")) | D(circuit=FOLDER)
    D(circuit=circuit, layers=3) | D(circuit=circuit, qubits=3) | D(loss=lambda a, b: 0)
    D(loss=lambda s, t, y: None) | D(loss=lambda s, t, y: s.sum().item()) | D(loss=lambda s, t, y: 1 / 0)
    D(loss=lambda s, t, y: (s * nan).sum()) | D(loss=torch.nn.MSELoss()) | D(loss=[])
    D(loss=torch.nn.CrossEntropyLoss) | D(callbacks=qkd.Callback()) | D(callbacks="ab") | D(callbacks=[None])
    D(callbacks=[object()]) | D(callbacks=[SimpleNamespace(on_epoch=3)]) | D(callbacks=None) | D(track="mlflow,excel")
    D(track=["tensorboard", 3]) | D(quiet=None) | D(resume=None) | D(name=Path("a/b")) | D(name="a" * 300)
    D(name=".hidden/..") | D(runs=FILE / "x") | D(valid=0.5, test=0.5) | D(valid=nan)
    D(test=1e-9, valid=1e-9, limit=1) | D(limit=True) | D(qubits=10**30) | D(layers=2**40) | D(batch_size=0.5)
    D(batch_size=-2) | D(lr=np.array([1, 2])) | D(lr=float("inf")) | D(weight_decay=-1) | D(dropout=-0.1)
    D(dropout=nan) | D(temperature=-1) | D(temperature=float("inf")) | D(alpha=-0.01) | D(alpha="half") | D(seed=1.5)
    D(seed=None) | D(patience=-3) | D(max_hours=-1) | D(sim="aer-noisy", device=None) | D(sim="aer-noisy", device="")
    D(sim="aer-noisy", device=backend, layout=[5, 6]) | D(sim="aer-noisy", device=backend, layout=[0])
    D(sim="aer-noisy", device=backend, qubits=9) | D(sim="aer", shots=-1) | D(sim="aer", shots=1.5) | D(precision=64)
    D(config=RUN) | D(config="x.toml") | qkd.distill(RUN / "config.toml") | qkd.distill(qkd.Config, epochs=1)
    qkd.evaluate(S, data=dataset) | qkd.evaluate(RUN, data={"t": T, "y": Y}) | qkd.evaluate(RUN, data=(T, Y, T))
    qkd.evaluate(RUN, data=(iter(T), 3)) | qkd.evaluate(RUN, data=FOLDER) | qkd.evaluate(RUN, data=(["a"], ["b"]))
    qkd.evaluate(RUN, data=table.assign(label=nan)) | qkd.evaluate(FILE, data=table) | qkd.evaluate({})
    qkd.evaluate([RUN]) | qkd.evaluate(qkd.Run, data=table) | qkd.evaluate(RUN, data=table).to_frame("x")
    qkd.evaluate(RUN).plot_confusion(ax=plt) | qkd.evaluate(RUN).plot_classes(3) | qkd.evaluate(RUN, "docstrings:")
    qkd.predict(S, run=RUN) | qkd.predict(table, run=RUN) | qkd.predict(np.array(3), run=RUN)
    qkd.predict(np.array(["a", 3], object), run=RUN) | qkd.predict(pd.Series([1, 2]), run=RUN)
    qkd.predict(T, run=RUN, file=FILE) | qkd.predict(T, run=RUN, file=RUN)
    qkd.predict(T, run=RUN, ask_teacher="yes") | qkd.predict(iter([]), run=RUN)
    qkd.predict(T, run=RUN, defer="student") | qkd.predict(T, run=RUN, defer=[0.1]) | qkd.predict([["a"]], run=RUN)
    qkd.predict(torch.zeros(2, 8), run=RUN) | qkd.predict([b"a"], run=S) | S.predict(range(3))
    S.predict(torch.zeros(3)) | S.predict(np.array("a")) | S.predict(np.array(3)) | S.predict("") | S.logits(table)
    S.logits(dict) | S.predict_proba(qkd) | S.predict_proba(T, 3)
    S.defer(T, 0.1, 0.9, (T, Y), lambda texts: np.ones((len(texts), 9)))
    S.defer(T, 0.1, 0.9, (T, Y), lambda texts: 1 / 0) | S.defer(T, validation=(T,)) | S.defer(T, validation="ab")
    S.defer(T, validation=(3, 4)) | S.defer(T, validation=(T, [3] * 60)) | S.defer(T, risk=True, confidence=2)
    S.export(FOLDER / "f", "numpy", texts=3) | S.export(FILE / "x") | S.export("")
    S.export(FOLDER / "f", "qasm", inputs=3) | S.export(FOLDER / "f", ["numpy"]) | S.export(FOLDER / "f", "NumPy!")
    S.save(FILE / "x") | S.save(FOLDER / "g", encoder=3) | S.save({}) | S.save(b"x") | S.classical([1])
    S.classical(tolerance=-nan) | S.plot_circuit(3) | S.to_frame(["facts"]) | S.push_to_hub("a b/c")
    S.push_to_hub("a/b", encoder="x") | S.push_to_hub("../x") | qkd.Student(None, None) | qkd.Student(S.model, None)
    qkd.Student(S.model, S.encoder, control=3) | qkd.Student.load(RUN, engine=3) | qkd.Student.load(RUN, 3)
    qkd.Student.load(["a"]) | qkd.Student.load(RUN, encoder=3) | qkd.Student.from_pretrained(None)
    qkd.Student.from_pretrained("a/b/c/d") | qkd.Student.from_pretrained(FILE) | qkd.Run([]) | qkd.Run({})
    qkd.Run("") | qkd.Run(RUN / "student" / "config.json") | qkd.Run(RUN).plot_accuracies(3)
    qkd.Run(RUN).plot_reliability("x") | qkd.Run(RUN).plot_risk_coverage(ax=[]) | qkd.Run(RUN).plot_agreement(np)
    qkd.Run(RUN).to_frame("Results") | qkd.teach(FOLDER / "t.txt", data=table) | qkd.teach(FOLDER, data=table)
    qkd.teach(FOLDER / "t.parquet", data=table, ray=3) | qkd.teach(FOLDER / "t.parquet", qkd)
    qkd.teach(FILE / "t.parquet", data=table, teacher="features:logreg") | qkd.compare(RUN, qkd.SweepSpec())
    qkd.compare({}) | qkd.compare([RUN]) | qkd.compare(RUN, students=("linear",)) | qkd.compare(RUN, seeds=2)
    qkd.CompareSpec(train_texts=(0,)) | qkd.CompareSpec(sims=("x",)) | qkd.CompareSpec(students=())
    qkd.CompareSpec(seeds=1.5) | qkd.CompareSpec(shot_counts=(0,)) | qkd.CompareSpec(noise_scales=(-1,))
    qkd.CompareSpec(tune=-1) | qkd.SweepSpec(over="qubits") | qkd.SweepSpec(over=3) | qkd.SweepSpec(goal="speed")
    qkd.SweepSpec(seeds=0) | qkd.SweepSpec(parallel=0) | qkd.sweep(RUN, qkd.CompareSpec()) | qkd.sweep({})
    qkd.sweep(RUN, spec=qkd.SweepSpec(over=("name=a|b",))) | qkd.reproduce("qdllm", base=3)
    qkd.reproduce("qdllm", qkd.Config(), deviations="js") | qkd.reproduce(students=[3], data=table)
    qkd.reproduce(students=("nowhere",), data=table) | qkd.reproduce(seeds=1.5) | qkd.reproduce(tune="a")
    qkd.reproduce(circuit="hardware", foo=1) | qkd.run_hardware(RUN, device=backend, backend=backend)
    qkd.run_hardware(RUN, shots=2**70, **LOCAL) | qkd.run_hardware(RUN, mitigation=[], **LOCAL)
    qkd.run_hardware(RUN, max_qpu_seconds=-1, **LOCAL) | qkd.run_hardware(RUN, max_qpu_seconds="a", **LOCAL)
    qkd.run_hardware(RUN, layout=[0, 0], **LOCAL) | qkd.run_hardware(RUN, seed="a", **LOCAL)
    qkd.run_hardware(RUN, detach="a", **LOCAL) | qkd.run_hardware({}, **LOCAL)
    qkd.run_hardware(RUN, file=FILE, **LOCAL) | qkd.run_hardware(RUN, file=FOLDER, **LOCAL)
    qkd.run_hardware(RUN, backend=GenericBackendV2) | qkd.run_hardware(RUN, backend=backend, local="a")
    qkd.run_hardware(RUN, service="ibm") | qkd.run_hardware(RUN, confirm=lambda: True, backend=backend)
    qkd.run_hardware(RUN, callbacks=3, **LOCAL) | qkd.learn(3, RUN, local=True)
    qkd.learn("fake_manila", {}, local=True) | qkd.learn("fake_manila", RUN, points="a", local=True)
    qkd.learn(backend, RUN) | qkd.transpile(qc, backend, inputs=3)
    qkd.transpile(qc, backend, inputs=x, observables=[]) | qkd.transpile(qc, backend, inputs=x, observables="ZZ")
    qkd.transpile(qc, backend, inputs=x, layout=[0]) | qkd.transpile(qc, backend, inputs=x, layout="01")
    qkd.transpile(qc, backend, inputs=x, layout=3) | qkd.transpile(qc, backend, inputs=x, layout=[0.5, 1])
    qkd.transpile(qc, backend, inputs=x, profile=qkd) | qkd.transpile(qc, backend, inputs=x, qubits=3)
    qkd.transpile(QuantumCircuit(9), backend, inputs=[]) | qkd.transpile([qc], backend)
    qkd.transpile(qc, backend=3, inputs=x) | qkd.transpile(qc, backend=GenericBackendV2, inputs=x)
    qkd.transpile("hardware", backend, settings={"seeds": "a"}) | qkd.transpile("hardware", backend, settings=[1])
    qkd.transpile(FOLDER, backend) | qkd.transpile(FILE, backend) | qkd.transpile(None, backend)
    qkd.transpile("hardware", backend, qubits=1.5) | qkd.transpile("hardware", "fake_manila", layers=10**7)
    qkd.circuits.load("hardware", qubits=10**7) | qkd.circuits.load("hardware", qubits=True) | qkd.circuits.load(qc)
    qkd.circuits.load(b"hardware") | qkd.circuits.load(FOLDER) | qkd.circuits.load("hardware", None, None, "x")
    qkd.circuits.from_qasm("OPENQASM 3.0; input float x; qubit[2] q; rx(x) q[5];")
    qkd.circuits.from_qasm("OPENQASM 2.0;") | qkd.circuits.from_qasm(b"OPENQASM 3.0;")
    qkd.circuits.StudentCircuit(qc, x, w, qc)
    qkd.circuits.StudentCircuit(qc, x, w, circuit.observables, start=("a",))
    qkd.circuits.StudentCircuit(qc, "ab", w, circuit.observables)
    qkd.circuits.StudentCircuit(measured, x, w, circuit.observables)
    qkd.circuits.StudentCircuit(qc, x + w, (), circuit.observables, start=(1,)) | qkd.circuits.CircuitSpec(qubits="a")
    qkd.circuits.CircuitSpec(layers=-1) | qkd.circuits.CircuitSpec(foo=1) | qkd.devices.load(FOLDER)
    qkd.devices.load(RUN / "config.toml") | qkd.devices.load([backend]) | qkd.devices.load(np)
    qkd.devices.save(backend, FOLDER / "x" / "y", 3) | qkd.devices.save("fake_manila", 3) | qkd.devices.save([])
    qkd.devices.table("nowhere") | qkd.devices.table(None) | qkd.devices.hidden_device("nowhere", 0)
    qkd.devices.hidden_device("fake_manila", seed=-1) | qkd.devices.hidden_device("fake_manila", seed=0, stress="a")
    qkd.devices.to_region(circuit, "fake_manila") | qkd.devices.noise_model("nowhere")
    qkd.devices.write("fake_manila", FOLDER / "z.json") | qkd.devices.find([]) | qkd.data.load(None)
    qkd.data.load([]) | qkd.data.load(table) | qkd.data.load("docstrings", limit="a")
    qkd.data.load("docstrings", limit=1.5) | qkd.data.load("docstrings", seed="a", limit=40)
    qkd.data.load("docstrings", split_by="group") | qkd.data.load("docstrings", split_by=("x", "y"))
    qkd.data.load("docstrings", split_by=("group",)) | qkd.data.load("docstrings", text_column=None)
    qkd.data.load("docstrings", text_column="a", label_column="a") | qkd.data.split(dataset, seed="a", valid=2)
    qkd.data.split(dataset, valid=0.9, test=0.9) | qkd.data.split(table) | qkd.data.split([dataset])
    qkd.data.Dataset(str, Y) | qkd.data.Dataset(T, Y, rows=[None]) | qkd.data.Dataset(T, Y, rows=[1])
    qkd.data.Dataset(T, Y, parts=["train"]) | qkd.data.Dataset(T, Y, split_keys=3) | qkd.data.Dataset(T, Y, notes=3)
    qkd.data.Dataset(T, Y, num_rows="a") | qkd.data.Dataset(np.array(3), Y) | qkd.data.Dataset(table, table)
    qkd.data.split(qkd.data.Dataset(T, Y, split_kind="group"))
    qkd.data.split(qkd.data.Dataset(T, Y, split_kind="time"))
    qkd.data.split(qkd.data.Dataset(T, Y, split_kind="x", split_keys=Y)) | qkd.encoders.make_encoder(["hashing:8"])
    qkd.encoders.make_encoder("hashing:8", arrays=3) | qkd.encoders.make_encoder("hashing:-3")
    qkd.encoders.make_encoder("features:0") | qkd.encoders.make_encoder(b"hashing:8")
    qkd.encoders.embed_texts(S.encoder, X) | qkd.encoders.embed_texts(None, T)
    qkd.encoders.embed_texts("hashing:8", T) | qkd.teachers.make_teacher("probe:x:y", 3)
    qkd.teachers.make_teacher("features:x") | qkd.teachers.make_teacher("probe:smollm2-135m", config=3)
    qkd.teachers.make_teacher({}) | qkd.teachers.make_teacher(b"x:y") | qkd.student.softmax(None)
    qkd.student.softmax("a") | qkd.student.score(X, None) | qkd.student.score(X, np.full(60, 99))
    qkd.student.score(X, np.zeros(60, int), X[:3]) | qkd.student.score("a", "b") | qkd.student.risk_coverage([], [])
    qkd.student.risk_coverage(None, None) | qkd.student.risk_coverage([nan], [True])
    qkd.student.risk_coverage(["a"], [1]) | qkd.export.export_student(RUN, FOLDER / "h")
    qkd.export.export_student(S, 3) | qkd.export.export_student(S, FOLDER / "h", "onnx", texts=[None])
    qkd.export.export_student(S, FOLDER / "h", "numpy", check=3) | qkd.reports.aligned(3)
    qkd.reports.aligned([[1, 2]]) | qkd.reports.device_table(None) | qkd.reports.table("a")
    qkd.simulation.make_engine(3, 3) | qkd.simulation.make_engine("exact", circuit)
    qkd.simulation.make_engine(EngineSpec(), circuit, rows="a") | qkd.simulation.check_circuit(circuit, points="a")
    qkd.simulation.check_circuit(circuit, device="nowhere") | qkd.simulation.choose(circuit, 3, "a")
    qkd.simulation.linear_response(None) | qkd.hardware.collect(RUN, "hw-99") | qkd.hardware.collect([RUN])
    qkd.hardware.collect(S) | qkd.hardware.cancel(RUN, []) | qkd.hardware.cancel("nowhere", "hw-1")
    qkd.hardware.list_jobs([]) | qkd.hardware.list_jobs(FILE) | qkd.hardware.rank_devices(RUN, "ab")
    qkd.hardware.rank_devices(RUN, [None])
    qkd.hardware.DeviceRunRequest(samples=0) | qkd.hardware.DeviceRunRequest(mitigation=["x", 3])
    qkd.hardware.LearningRequest(shots="a") | qkd.hardware.DeviceRunRequest(run=3)
    qkd.results.Prediction.from_dict(3) | qkd.results.Estimate() | qkd.results.Scores.from_dict([])
    qkd.results.Metrics.from_dict(None) | qkd.Config(data="x") | qkd.Config(data={"limit": -1})
    qkd.Config(train={"lr": "a"}) | qkd.Config(student={"circuit": 3}) | qkd.Config(**{"train.epochs": 3})
    qkd.Config(teacher={"teacher": 3}) | qkd.Config(run={"runs": 3}) | qkd.Config({}) | qkd.Callback(3)
"""
"""Further calls that are wrong."""


def split(block):
    """The entries of a block, which vertical bars and line ends separate."""
    return [entry.strip() for line in block.strip().splitlines() for entry in line.split(" | ")]


WRONG = [f"qkd.distill({entry})" for entry in split(DISTILL)]
WRONG += [f"D({entry})" for entry in split(SETTINGS)] + split(CALLS) + split(MORE) + split(OTHERS)


@pytest.fixture(scope="module")
def names(corpus, tmp_path_factory):
    """The objects of the calls: texts, features, a finished run, circuits, devices, files."""
    folder = tmp_path_factory.mktemp("wrong")
    table = pd.read_csv(corpus / "texts.csv").rename(columns={"t": "text", "y": "label"})
    table = table.sample(60, random_state=0).reset_index(drop=True)
    small = {
        "data": table,
        "teacher": f"logits:{corpus / 'logits.csv'}",
        "encoder": "hashing:8",
        "qubits": 2,
        "layers": 1,
        "epochs": 1,
        "diagnose": False,
        "controls": False,
        "quiet": True,
        "runs": folder / "runs",
    }
    run = qkd.distill(**small)
    x, w = ParameterVector("x", 2), ParameterVector("w", 2)
    circuit = QuantumCircuit(2)
    for qubit in range(2):
        circuit.ry(x[qubit], qubit)
        circuit.rx(w[qubit], qubit)
    circuit.cz(0, 1)
    (folder / "file").write_text("neither a table nor a circuit")

    def distill(**options):
        data = options.get("data")
        of_features = isinstance(data, tuple) and bool(data) and isinstance(data[0], np.ndarray)
        return qkd.distill(
            **{key: small[key] for key in small if not of_features or key not in ("teacher", "encoder")} | options
        )

    return {
        **{"qkd": qkd, "np": np, "pd": pd, "Path": Path, "nan": float("nan"), "D": distill, "EngineSpec": EngineSpec},
        **{
            "table": table,
            "T": list(table.text),
            "Y": list(table.label),
            "dataset": qkd.data.Dataset(table.text, table.label),
        },
        "X": np.random.default_rng(0).normal(size=(60, 8)),
        **{"RUN": run.folder.path, "S": run.student, "FOLDER": folder, "FILE": folder / "file"},
        **{"qc": circuit, "x": list(x), "w": list(w), "measured": circuit.measure_all(inplace=False)},
        "circuit": qkd.circuits.load("hardware", qubits=2, layers=1),
        **{"backend": GenericBackendV2(3, seed=0), "GenericBackendV2": GenericBackendV2},
        "client": type("Client", (), {"backends": lambda self: []})(),
        "LOCAL": {"device": "fake_manila", "local": True},
        **{"torch": torch, "plt": plt, "SimpleNamespace": SimpleNamespace, "QuantumCircuit": QuantumCircuit},
        **{"LogisticRegression": LogisticRegression, "KMeans": KMeans, "TfidfVectorizer": TfidfVectorizer},
        "make_pipeline": make_pipeline,
    }


def test_there_are_over_800():
    assert len(WRONG) == len(set(WRONG)) > 800


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_call_ends_in_one_sentence(names, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((QkdError, TypeError)) as caught:
        eval(call, names)
    error = caught.value
    assert isinstance(error, QkdError) or "argument" in str(error)  # Python's own, of unknown and missing arguments
    assert str(error) and "\n" not in str(error).strip()
