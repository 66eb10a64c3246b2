"""The Hugging Face Hub: bundles are uploaded and downloaded through its own client."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from qkd.core.errors import ModelError, ServiceError
from qkd.data.hashes import FILE as HASHES
from qkd.student.about import FILES, MODELS

if TYPE_CHECKING:
    from qkd.student.bundle import Student


def download(repo_id: str, revision: str | None = None) -> Path:
    """Return the local folder of a repository's bundle; only the files of a bundle are downloaded.

    Raises:
        ModelError: ``repo_id`` is no ``ORG/NAME``, or the repository does not exist.
        ServiceError: the hub does not answer.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=[*FILES, f"{MODELS}/*"]))
    except HFValidationError:
        raise ModelError(f"'{repo_id}' is neither a folder nor a repository ORG/NAME of the Hugging Face Hub") from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"the Hugging Face Hub has no repository '{repo_id}' that you can read; log in with 'hf auth login'"
        ) from None
    except Exception as error:  # the client and its HTTP library raise errors of many kinds
        raise ServiceError(f"'{repo_id}' cannot be downloaded ({_first_line(error)})") from None


def upload(student: Student, repo_id: str, private: bool, message: str, encoder: bool) -> str:
    """Upload a student's bundle and return the URL of the repository.

    Raises:
        ModelError: ``repo_id`` is no ``ORG/NAME``.
        ServiceError: the hub refuses the upload.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        student.save(Path(folder) / "student", encoder=encoder)
        (Path(folder) / "student" / HASHES).unlink(missing_ok=True)  # they tell who has a text that it was trained on
        try:
            url = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=url.repo_id, folder_path=Path(folder) / "student", commit_message=message)
        except HFValidationError as error:
            raise ModelError(f"'{repo_id}' is no repository name ORG/NAME ({_first_line(error)})") from None
        except Exception as error:  # the client and its HTTP library raise errors of many kinds
            raise ServiceError(
                f"'{repo_id}' cannot be uploaded ({_first_line(error)}); log in with 'hf auth login'"
            ) from None
    return str(url)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
