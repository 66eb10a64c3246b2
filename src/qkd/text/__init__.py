"""Everything left of the trainer: texts, encoders, teachers, labelling."""
