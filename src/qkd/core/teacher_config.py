"""The settings of teachers: four sections of ``Config``."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from qkd.core.specs import Count, Number, Part, Positive, Seed, Spec, Words, option, several


class TeacherSpec(Spec):
    """The classifier whose logits the student learns from."""

    teacher: str = option(
        "probe:smollm2-135m",
        "KIND:MODEL with KIND probe, prompt, api, lora, classifier or logits; MODEL is a short name, folder, hub id "
        "or file.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "Type of the teacher's weights; auto is float32 on CPUs and bfloat16 on CUDA."
    )
    quantize: Literal["none", "8bit", "4bit"] = option("none", "Quantization of the teacher by bitsandbytes.")
    max_tokens: Count | None = option(
        None, "Maximum number of tokens of a text. Default: 256, or fewer if the model has a shorter context."
    )
    label_map: str | None = option(
        None, "For classifier: pairs MODEL=DATA that assign its labels to those of the data, joined by commas."
    )


class PromptSpec(Spec):
    """Prompts of a prompt: teacher."""

    prompt: Words = option(
        ("auto",),
        "Built-in prompts (classify, continue, category), auto for all of them, or files that contain {text}. A few "
        "labeled texts select the best of several.",
    )
    examples: Number = option(0, "Number of training texts of each class that the prompt shows as examples.")
    examples_seed: Seed = option(0, "Seed of the selection of examples.")
    calibrate: Literal["words", "labels", "batch", "none"] = option(
        "words",
        "Map from scores to logits. words and labels fit a linear map, with or without related words. batch makes "
        "all labels equally likely on average. none applies a temperature only.",
    )


class ApiSpec(Spec):
    """Servers and limits of an api: teacher."""

    api_url: Annotated[tuple[str, ...], BeforeValidator(several)] = option(
        (),
        "The base URL of a server, such as http://localhost:8000/v1; several share the work. Default: OPENAI_BASE_URL.",
    )
    api_key_env: str = option("OPENAI_API_KEY", "The environment variable that contains the API key.")
    api_source: Literal["auto", "score", "likelihoods", "next-token", "votes"] = option(
        "auto", "Where label probabilities come from; auto uses the first source that passes a test on the server."
    )
    api_votes: Count = option(20, "Samples of a text for the source votes.")
    api_concurrency: Count = option(16, "Simultaneous requests to each server.")
    api_timeout: Positive = option(120.0, "Seconds until a request counts as failed.")
    price: str | None = option(None, "US dollars for a million read and written tokens, as IN,OUT; needs --max-cost.")
    max_cost: Annotated[float, Field(ge=0)] | None = option(None, "US dollars at which labeling stops; needs --price.")

    @model_validator(mode="after")
    def _limited(self) -> ApiSpec:
        if (self.price is None) != (self.max_cost is None):
            raise ValueError("--price and --max-cost need each other: a price without a limit protects nothing")
        _ = self.prices
        return self

    @field_validator("api_url")
    @classmethod
    def _no_credentials(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            parts = urlsplit(url)
            if parts.username or parts.password or parts.query or parts.fragment:
                # without the value, which pydantic's own message would quote
                raise PydanticCustomError(
                    "credentials",
                    "a URL with a user name, password or query would be stored in config.toml; put the key into the "
                    "environment variable that --api-key-env names",
                )
        return urls

    @property
    def prices(self) -> tuple[float, float]:
        """US dollars for a million read and a million written tokens."""
        try:
            read, written = map(float, (self.price or "0,0").split(","))
        except ValueError:
            raise ValueError(f"--price '{self.price}' is not IN,OUT, such as 0.25,2.00") from None
        if not (0 <= read < 1e6 and 0 <= written < 1e6):
            raise ValueError(f"--price '{self.price}' is negative or too large")
        return read, written


class LoraSpec(Spec):
    """Fine-tuning of a lora: teacher."""

    lora_rank: Count = option(8, "Rank r of the adapters.")
    lora_targets: str = option("all-linear", "Names of the modules that get adapters, joined by commas.")
    lora_depth: Part = option(0.67, "Fraction of the LM's layers that the teacher keeps, from the bottom.")
    lora_tuned: Part = option(0.5, "Fraction of the kept layers that get adapters, from the top.")
    lora_epochs: Count = option(3, "Maximum number of epochs.")
    lora_texts: Count | None = option(None, "Maximum number of training texts. Default: all.")
    lora_batch_size: Count = option(16, "Texts per optimizer step.")
    lora_lr: Positive = option(0.0003, "Highest learning rate of AdamW.")
    lora_patience: Count = option(2, "Number of epochs without a better validation loss before training stops.")
    lora_seed: Seed = option(0, "Seed of adapters, batches and dropout.")
