"""The cards of the home page: forms of a model on one card, filters, thousands that stay smooth, the keyboard alone."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from app.core.control import Want
from app.core.snapshot import Library
from app.ui.library.field import TileField
from app.ui.library.tile import ModelTile, shown_rows
from app.ui.pages.models import ModelsPage
from tests.ui import library_worlds as models
from tests.ui import stage, worlds
from tests.ui.conftest import StageOf
from tests.ui.reading import click, is_there, named, texts, unnamed, wider_than
from tests.ui.stage import until


def put_up(
    stage_of: StageOf, world: worlds.World, size: tuple[int, int] = (1280, 800)
) -> tuple[stage.Stage, ModelsPage]:
    made = stage_of("empty", size=size)
    stage.tell(made.store, world)
    QApplication.processEvents()
    page = made.window.open_page("models")
    assert isinstance(page, ModelsPage)
    return made, page


def shown(page: ModelsPage) -> list[str]:
    tiles = [tile for tile in page.field.findChildren(ModelTile) if tile.isVisible() and tile.entry is not None]
    tiles.sort(key=lambda tile: (tile.y(), tile.x()))
    return [tile.entry.title for tile in tiles if tile.entry is not None]


def test_the_demo_alone_is_one_card_without_filters(stage_of: StageOf) -> None:
    pair = (worlds.DEMO, worlds.DEMO_LONG)
    library = Library(profiles=pair, models=(models.group("Engine Room Demo", pair),))
    made, page = put_up(stage_of, models.world(library, gpus=worlds.NO_GPU))
    assert shown(page) == ["Engine Room Demo"]
    assert "3.0 MiB on disk" in texts(made.window), "what ships is small, and counted once"
    assert not page.filters.isVisible()
    click(made.window, "Load demo-long")
    assert made.link.sent == [("/control/want", Want(profile="demo-long"))]


def test_one_card_holds_all_forms_and_says_what_they_take_on_the_disk(stage_of: StageOf) -> None:
    made, page = put_up(stage_of, models.world())
    assert shown(page)[:3] == ["Gemma 3 27B", "Llama 3.1 8B Instruct", "Llama 3.3 70B Instruct"]
    said = texts(made.window)
    assert "27.0 B · 5 forms · vision" in said
    assert "on disk with vision part · Hugging Face" in said
    assert is_there(made.window, "Load gemma-3-27b-q4_k_m")
    assert not is_there(made.window, "Load anyway gemma-3-27b-q8_0"), "there is room for three: those that fit"
    click(made.window, "All ways to load Gemma 3 27B")
    assert named(made.window, "Which form").count() == 5  # type: ignore[attr-defined]


def test_what_is_loaded_is_always_among_the_rows() -> None:
    seats = worlds.ready(models.GEMMA[0])
    seat = seats.seats[0]
    rows = shown_rows(models.GEMMA, lambda card: seat)
    assert models.GEMMA[0] in rows
    assert len(rows) == 3


def test_filters_narrow_and_say_how_far(stage_of: StageOf) -> None:
    made, page = put_up(stage_of, models.world())
    click(made.window, "Only what fits now")
    assert "Llama 3.3 70B Instruct" not in shown(page)
    page.filters.ask(capability="tools")
    assert shown(page) == ["Llama 3.1 8B Instruct", "Qwen3 14B"]
    assert "2 of 7" in texts(made.window)
    page.filters.ask(size="more")
    assert "No model is like that. Clear a filter to see more." in texts(made.window)
    click(made.window, "Clear the filters")
    assert len(shown(page)) >= 5


def test_models_that_are_not_here_stay_out_of_the_way_until_asked_for(stage_of: StageOf) -> None:
    made, page = put_up(stage_of, models.world())
    assert "Qwen2.5 VL 7B" not in shown(page)
    head = named(made.window, "2 more that Engine Room knows, not on this machine")
    head.click()  # type: ignore[attr-defined]
    until(lambda: page.elsewhere.built == 2)
    page.search.setText("mixtral")
    until(lambda: page.elsewhere.tile_of("mixtral-8x7b") is not None)
    assert "Not on this machine" in texts(made.window)
    assert named(made.window, "Download mixtral-8x7b").isEnabled()


def test_a_broken_off_download_says_so_and_leads_to_its_rest(stage_of: StageOf) -> None:
    made, page = put_up(stage_of, models.world(), size=(1280, 1500))
    page.search.setText("deepseek")
    assert shown(page) == ["DeepSeek R1 Distill 32B"]
    assert "A download of it was broken off: 7.0 GiB are here." in texts(made.window)
    asked: list[object] = []
    page.page_wanted.disconnect()
    page.page_wanted.connect(lambda page_key, what: asked.append((page_key, what)))
    click(made.window, "Get the rest of unsloth/DeepSeek-R1-Distill-Qwen-32B-GGUF")
    assert asked == [("download", "unsloth/DeepSeek-R1-Distill-Qwen-32B-GGUF")]


def test_an_unreadable_file_is_told_beside_the_rest_of_the_library(stage_of: StageOf) -> None:
    made, page = put_up(stage_of, models.world(models.BROKEN), size=(1280, 2200))
    assert "The file ends within its header" in texts(made.window)
    assert len(shown(page)) == 7


def test_cards_appear_while_the_library_grows_and_keep_their_place(stage_of: StageOf) -> None:
    made, page = put_up(stage_of, models.world(Library(profiles=models.GEMMA, models=models.MODELS.models[:1])))
    assert shown(page) == ["Gemma 3 27B"]
    tile = page.field.tile_of(models.GEMMA[2].profile.id)
    made.store.put("library", models.MODELS)
    QApplication.processEvents()
    assert shown(page)[0] == "Gemma 3 27B"
    assert page.field.tile_of(models.GEMMA[2].profile.id) is tile, "the card under the pointer is the same one"
    assert len(shown(page)) >= 5


def test_thousands_of_models_cost_the_widgets_of_one_page(stage_of: StageOf) -> None:
    made, page = put_up(stage_of, models.world(models.many(2000)))
    until(lambda: len(shown(page)) > 3)
    built = page.field.built
    assert built <= 30
    bar = page.verticalScrollBar()
    for place in (0.3, 0.7, 1.0):
        bar.setValue(int(bar.maximum() * place))
        QApplication.processEvents()
    assert "Model 1999" in shown(page)
    assert page.field.built <= built + 9, "tiles that left the view are filled anew"
    page.search.setText("Model 1234")
    until(lambda: shown(page) == ["Model 1234"])
    assert made.window.isVisible()


def test_verdicts_follow_the_free_memory(stage_of: StageOf) -> None:
    """M4: what the service prices anew is on the row at once."""
    made, _ = put_up(stage_of, models.world())
    button = named(made.window, "Load qwen3-14b")
    full = msgspec.structs.replace(
        models.ONE_GPU, gpus=(worlds.gpu(0, worlds.A, "NVIDIA GeForce RTX 4090", 24, 0, 20.0),)
    )
    again = models.card("qwen3-14b", "Qwen3 14B", models.QWEN.facts, full, 65_536)  # type: ignore[arg-type]
    changed = tuple(again if card.profile.id == "qwen3-14b" else card for card in models.MODELS.profiles)
    made.store.put("library", msgspec.structs.replace(models.MODELS, profiles=changed))
    assert button.accessibleName() == "Load anyway qwen3-14b"


def test_tab_goes_from_card_to_card_in_reading_order_and_scrolls_along(stage_of: StageOf) -> None:
    made, page = put_up(stage_of, models.world(models.many(60)))
    until(lambda: len(shown(page)) > 3)
    made.window.activateWindow()
    page.search.setFocus()
    seen: list[str] = []
    for _ in range(400):
        QTest.keyClick(QApplication.focusWidget() or made.window, Qt.Key.Key_Tab)
        widget = QApplication.focusWidget()
        while widget is not None and not isinstance(widget, ModelTile):
            widget = widget.parentWidget()
        if widget is not None and widget.entry is not None and (not seen or seen[-1] != widget.entry.title):
            seen.append(widget.entry.title)
        if "Model 29" in seen:
            break
    assert seen[:30] == [f"Model {number}" for number in range(30)]


def test_every_card_has_names_and_fits_into_the_smallest_window(stage_of: StageOf) -> None:
    made, page = put_up(stage_of, models.world(), size=(960, 600))
    assert unnamed(made.window) == []
    assert wider_than(made.window, 960) == []
    assert isinstance(page.field, TileField)


def test_a_suggestion_leads_to_its_search_on_the_download_page(stage_of: StageOf) -> None:
    made, page = put_up(stage_of, models.world())
    hub = msgspec.structs.replace(models.SHIPPED[0].profile, model="Qwen/Qwen2.5-VL-7B-Instruct")
    asked = msgspec.structs.replace(models.SHIPPED[0], profile=hub)
    made.store.put("library", msgspec.structs.replace(models.MODELS, profiles=(worlds.DEMO, asked), models=()))
    click(made.window, "1 more that Engine Room knows, not on this machine")
    click(made.window, "Download qwen2.5-vl-7b")
    assert made.window.page_key == "download"
    assert named(made.window, "Search the hub").text() == "Qwen/Qwen2.5-VL-7B-Instruct"  # type: ignore[attr-defined]
    assert page.elsewhere.built == 1
