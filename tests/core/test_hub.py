"""What a repository offers, told from its list of files; and which form is the best that fits."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from app.core.catalog.facts import ModelFacts, TensorFacts
from app.core.hub import (
    DRAFT,
    VISION,
    HubFile,
    HubForm,
    HubListing,
    forms_of,
    picked,
    quantisation_of_name,
    scaled,
    with_recommended,
)
from app.core.memory.plan_types import MemoryPlan, Verdict

GB = 10**9


def files(**sizes: int) -> list[HubFile]:
    return [HubFile(path=path, bytes=size, etag="a" * 64) for path, size in sizes.items()]


def test_parts_projector_and_draft_heads_go_with_their_model() -> None:
    forms = forms_of(
        "acme/vl-GGUF",
        files(
            **{
                "vl-Q4_K_M.gguf": 4 * GB,
                "Q8_0/vl-Q8_0-00001-of-00002.gguf": 5 * GB,
                "Q8_0/vl-Q8_0-00002-of-00002.gguf": 3 * GB,
                "vl-BF16-00001-of-00002.gguf": 9 * GB,  # its second part is not there
                "mmproj-F32.gguf": 2 * GB,
                "mmproj-F16.gguf": 1 * GB,
                "mtp-vl-Q8_0.gguf": GB // 2,
                "vl.imatrix.gguf": 7,
                "README.md": 9,
            }
        ),
    )
    assert [(form.title, form.role == DRAFT) for form in forms] == [("Q4_K_M", False), ("Q8_0", False), ("Q8_0", True)]
    split = forms[1]
    assert [file.path for file in split.files] == [
        "Q8_0/vl-Q8_0-00001-of-00002.gguf",
        "Q8_0/vl-Q8_0-00002-of-00002.gguf",
        "mmproj-F16.gguf",
    ]
    assert split.files[-1].role == VISION
    assert (split.bytes, split.model_bytes) == (9 * GB, 8 * GB)
    assert len(forms[2].files) == 1, "what only guesses ahead sees no pictures"


def test_a_folder_model_is_one_form_with_what_engines_read_and_nothing_else() -> None:
    (form,) = forms_of(
        "acme/model-AWQ",
        files(
            **{
                "config.json": 700,
                "tokenizer.json": 9_000,
                "model-00001-of-00002.safetensors": GB,
                "model-00002-of-00002.safetensors": GB,
                "consolidated.safetensors": 2 * GB,
                "modeling_acme.py": 5_000,
                "training_args.bin": 5_000,
                "original/params.json": 40,
                "logo.png": 60,
            }
        ),
    )
    assert (form.title, form.format, form.name) == ("AWQ", "safetensors", "")
    assert [file.path for file in form.files] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "config.json",
        "tokenizer.json",
    ]
    assert forms_of("acme/half", files(**{"config.json": 1, "model-00001-of-00002.safetensors": GB})) == ()
    assert forms_of("acme/code", files(**{"pytorch_model.bin": GB, "config.json": 1})) == ()


@pytest.mark.parametrize(
    ("name", "quantisation"),
    [
        ("Qwen3-4B-Q4_K_M.gguf", "Q4_K_M"),
        ("Qwen3-4B-UD-Q2_K_XL.gguf", "Q2_K_XL"),
        ("x.IQ3_XXS.gguf", "IQ3_XXS"),
        ("BF16/x-BF16-00001-of-00002.gguf", "BF16"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("Q8_0/model.gguf", "Q8_0"),
        ("model-fp16.gguf", "F16"),
        ("model.gguf", ""),
    ],
)
def test_the_quantisation_is_read_from_the_name(name: str, quantisation: str) -> None:
    assert quantisation_of_name(name) == quantisation


def form(title: str, size: int, verdict: Verdict | None, parameters: int | None = 4 * GB) -> HubForm:
    facts = ModelFacts(
        path=Path("x"),
        format="gguf",
        name="x",
        architecture="x",
        file_bytes=size,
        weights_bytes=size,
        parameters=parameters,
    )
    plan = MemoryPlan(verdict=verdict, devices=(), summary="") if verdict else None
    return HubForm(
        name=f"{title}.gguf",
        title=title,
        format="gguf",
        files=tuple(files(**{f"{title}.gguf": size})),
        facts=facts,
        plan=plan,
    )


def test_the_best_that_fits_is_the_most_exact_one_short_of_waste() -> None:
    fits, not_ = Verdict.FITS, Verdict.DOES_NOT_FIT
    best = [
        f.title
        for f in with_recommended([form("Q2_K", GB, fits), form("Q4_K_M", 2 * GB, fits), form("Q8_0", 4 * GB, not_)])
        if f.recommended
    ]
    assert best == ["Q4_K_M"]
    roomy = [form("Q4_K_M", 2 * GB, fits), form("Q8_0", 42 * GB // 10, fits), form("BF16", 8 * GB, fits)]
    assert [f.title for f in with_recommended(roomy) if f.recommended] == ["Q8_0"], (
        "16 bits gain nothing that one notices"
    )
    assert [f.title for f in with_recommended(roomy[2:]) if f.recommended] == ["BF16"], (
        "but alone it is the best there is"
    )
    assert not any(f.recommended for f in with_recommended([form("Q2_K", GB, not_), form("Q4_K_M", GB, None)]))
    assert not any(f.recommended for f in with_recommended([replace(form("Q2_K", GB, fits), role=DRAFT)]))


def test_a_form_is_picked_by_file_name_or_quantisation() -> None:
    listing = HubListing(
        name="acme/x",
        commit="c",
        forms=with_recommended([form("Q4_K_M", GB, Verdict.FITS), form("Q8_0", 2 * GB, None)]),
    )
    assert picked(listing, "q8_0") is listing.forms[1]
    assert picked(listing, "Q4_K_M.gguf") is listing.forms[0]
    assert picked(listing, "") is listing.forms[0]
    assert picked(listing, "Q5_K_M") is None
    assert picked(replace(listing, forms=(form("A", 1, None), form("B", 1, None))), "") is None


def test_a_siblings_facts_are_scaled_by_size_alone() -> None:
    small = ModelFacts(
        path=Path("x"), format="gguf", name="x", architecture="x", file_bytes=100, weights_bytes=90, layers=3,
        tensors=(TensorFacts(role="layer", layer=0, type="Q4_K", bytes=40, largest_bytes=20),),
    )  # fmt: skip
    large = scaled(small, 200, "Q8_0")
    assert (large.weights_bytes, large.tensors[0].bytes, large.tensors[0].largest_bytes, large.layers) == (
        180,
        80,
        40,
        3,
    )
    assert large.quantisation == "Q8_0"
