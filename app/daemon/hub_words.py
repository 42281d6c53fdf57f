"""Puts into sentences why the hub did not give what was asked; imported only where the hub's library is loaded."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx2
from huggingface_hub import constants, errors

from app.core.errors import EngineRoomError, HubError, HubUnreachable, ModelGated, NotOnHub

_TOKEN = "The Download page and `engine-room keys set hub` take one and keep it in the keyring."


def host() -> str:
    """How sentences call the place that is asked; never an address with a password in it."""
    return urlsplit(constants.ENDPOINT).hostname or constants.ENDPOINT


def said(error: Exception, name: str, has_token: bool) -> EngineRoomError:
    """The error as a person meets it. `name`: the repository that was asked for, "" for a search."""
    match error:
        case EngineRoomError():
            return error
        case errors.GatedRepoError():
            return _gated(name, has_token)
        case errors.DisabledRepoError():
            return ModelGated(f"{name} was taken off {host()}.", "Look for another copy of the model.")
        case errors.RevisionNotFoundError() | errors.RemoteEntryNotFoundError():
            return NotOnHub(f"{name} does not have that file or revision any more.", "Look at its list of files again.")
        case errors.RepositoryNotFoundError():
            return _not_found(name, has_token)
        case errors.HFValidationError():
            return NotOnHub(f"{name[:100]!r} is no name of a repository.", "Write it as publisher/model.")
        case errors.OfflineModeIsEnabled():
            return HubUnreachable("HF_HUB_OFFLINE is set, so nothing is asked of the hub.", "Unset it and start again.")
        case httpx2.HTTPStatusError() | errors.HfHubHTTPError():
            return of_status(error.response.status_code, name, has_token)
        case httpx2.TimeoutException():
            return HubUnreachable(f"{host()} does not answer in time.", "Check the network, then try again.")
        case httpx2.HTTPError() | errors.FileMetadataError():
            return HubUnreachable(f"{host()} cannot be reached: {_short(error)}.", "Check the network, then try again.")
    return HubError(f"{host()} gave an answer that cannot be used: {type(error).__name__}: {_short(error)}.")


def of_status(status: int, name: str, has_token: bool) -> EngineRoomError:
    match status:
        case 401:
            return _not_found(name, has_token)
        case 403:
            return _gated(name, has_token)
        case 404:
            return NotOnHub(f"{host()} does not have it: {name}.", "Check the spelling: publisher/model.")
        case 429:
            return HubUnreachable(f"{host()} is asked too often now.", "Wait a minute, or give an access token.")
    return HubUnreachable(f"{host()} has trouble of its own (status {status}).", "Try again in a while.")


def _gated(name: str, has_token: bool) -> ModelGated:
    if not has_token:
        return ModelGated(
            f"{name} is given only to people who agreed to its terms.",
            f"Agree on the model's page, then make an access token there. {_TOKEN}",
        )
    return ModelGated(
        f"{name} is not open to the account of your access token.",
        "Agree to its terms on the model's page with that account; some publishers let people in by hand, which takes days.",
    )


def _not_found(name: str, has_token: bool) -> EngineRoomError:
    hint = "" if has_token else f" A private model needs an access token. {_TOKEN}"
    return NotOnHub(
        f"{host()} has no model {name[:100]!r} for {'this account' if has_token else 'everybody'}.",
        f"Check the spelling: publisher/model.{hint}",
    )


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
