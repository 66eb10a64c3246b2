"""A toy teacher kind ``counts:SMOOTHING``: naive Bayes on words, with its setting after the colon and its own card."""

import numpy as np

from qkd.results import TeacherCard


class CountTeacher:
    """A teacher that needs no weights."""

    cross_fitted = False

    def __init__(self, smoothing):
        self.name, self.smoothing = f"counts:{smoothing}", float(smoothing)

    @property
    def num_parameters(self):
        return len(self.model.named_steps["multinomialnb"].feature_log_prob_.ravel())

    def fit(self, dataset, splits):
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.naive_bayes import MultinomialNB
        from sklearn.pipeline import make_pipeline

        texts = [dataset.texts[row] for row in splits.train]
        self.model = make_pipeline(CountVectorizer(), MultinomialNB(alpha=self.smoothing))
        self.model.fit(texts, dataset.targets[splits.train])

    def logits(self, texts):
        return self.model.predict_log_proba(texts).astype(np.float32)

    predict_logits = logits

    def describe(self):
        return TeacherCard(name=self.name, kind="counts", smoothing=self.smoothing)


def make(model, loading, config):
    return CountTeacher(model)
