"""One distillation, stage by stage."""
