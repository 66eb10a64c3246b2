"""One distillation: ``distillation.run_pipeline`` calls a function for each stage.

=============== ==================================================================
``inputs``      texts, embeddings and teacher logits
``training``    the student, its fine-tuned encoder, ablations, controls, more seeds
``evaluation``  logits, scores and differences on the test split
``diagnosis``   the causes of a shortfall against the teacher
``settings``    options on top of a configuration
=============== ==================================================================
"""
