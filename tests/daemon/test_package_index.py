"""pip's index settings, in uv's words: a company's mirror is used without being told twice."""

from pathlib import Path

from app.daemon.installer import Build, _places
from app.daemon.package_index import PipSettings, config_files, pip_settings, uv_environment, uv_flags, uv_secret_places


def test_files_and_variables_are_read_in_pips_order(tmp_path: Path) -> None:
    site, user = tmp_path / "site.conf", tmp_path / "user.conf"
    site.write_text("[global]\nindex-url = https://site.invalid/simple\nfind_links = /a\n  /b\n", "utf-8")
    user.write_text("[install]\nindex-url = https://user.invalid/simple\n[freeze]\nindex-url = no\n", "utf-8")
    settings = pip_settings({"PIP_EXTRA_INDEX_URL": "https://one.invalid https://two.invalid"}, [site, user])
    assert settings == PipSettings(
        index_url="https://user.invalid/simple",
        extra_index_urls=("https://one.invalid", "https://two.invalid"),
        find_links=("/a", "/b"),
    )


def test_a_variable_beats_every_file(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://file.invalid\nno-index = yes\n", "utf-8")
    settings = pip_settings({"PIP_INDEX_URL": "https://variable.invalid", "PIP_NO_INDEX": "0"}, [file])
    assert settings.index_url == "https://variable.invalid"
    assert not settings.no_index


def test_a_broken_file_is_passed_over(tmp_path: Path) -> None:
    broken, garbage = tmp_path / "broken.conf", tmp_path / "garbage.conf"
    broken.write_text("index-url = before any section\n", "utf-8")
    garbage.write_bytes(b"\xff\xfe[global]")
    assert pip_settings({}, [broken, garbage, tmp_path / "absent.conf"]) == PipSettings()


def test_it_all_becomes_flags_and_all_indexes_count_alike() -> None:
    flags = uv_flags(
        PipSettings(
            index_url="https://a.invalid",
            extra_index_urls=("https://b.invalid",),
            find_links=("/w",),
            trusted_hosts=("h",),
        )
    )
    assert flags == [
        *("--default-index", "https://a.invalid", "--index", "https://b.invalid"),
        *("--index-strategy", "unsafe-best-match", "--find-links", "/w", "--allow-insecure-host", "h"),
    ]
    assert uv_flags(PipSettings(no_index=True, index_url="https://a.invalid", find_links=("/w",))) == [
        *("--no-index", "--find-links", "/w")
    ]
    assert uv_flags(PipSettings()) == []
    assert uv_environment(PipSettings(certificates="/c.pem")) == {"SSL_CERT_FILE": "/c.pem"}


def test_an_address_with_a_password_never_stands_in_a_command_line() -> None:
    """I18: the process list is everybody's; uv gets such an address by its environment."""
    settings = PipSettings(
        index_url="https://me:hunter2@a.invalid",
        extra_index_urls=("https://b.invalid", "https://me:hunter2@c.invalid"),
        find_links=("/wheels", "https://me:hunter2@d.invalid/"),
    )
    assert not any("hunter2" in flag for flag in uv_flags(settings))
    assert uv_secret_places(settings) == {
        "UV_DEFAULT_INDEX": "https://me:hunter2@a.invalid",
        "UV_INDEX": "https://b.invalid https://me:hunter2@c.invalid",
        "UV_FIND_LINKS": "/wheels,https://me:hunter2@d.invalid/",
    }
    assert "https://b.invalid" not in uv_flags(settings), "uv would not look at the variable beside a flag"
    assert uv_secret_places(PipSettings(index_url="https://a.invalid")) == {}


def test_a_build_with_an_index_of_its_own_is_asked_for_beside_the_persons() -> None:
    """uv refuses --index-strategy given twice, and looks at UV_INDEX only without --index."""
    build = Build(accelerator="cpu", extra_index="https://torch.invalid/cpu")
    flags = _places(build, PipSettings(extra_index_urls=("https://b.invalid",)))
    assert flags.count("--index-strategy") == 1
    assert [flags[at + 1] for at, flag in enumerate(flags) if flag == "--index"] == [
        "https://b.invalid",
        "https://torch.invalid/cpu",
    ]
    assert "--index" not in _places(build, PipSettings(extra_index_urls=("https://me:hunter2@c.invalid",)))


def test_the_files_are_pips_own(tmp_path: Path) -> None:
    files = config_files({"HOME": "/home/me", "PIP_CONFIG_FILE": "/x/pip.conf"})
    assert [str(file) for file in files] == [
        *("/etc/xdg/pip/pip.conf", "/etc/pip.conf", "/home/me/.pip/pip.conf", "/home/me/.config/pip/pip.conf"),
        "/x/pip.conf",
    ]
    assert config_files({"PIP_CONFIG_FILE": "/dev/null"}) == ()


def test_pips_timeout_is_read_and_a_senseless_one_is_none() -> None:
    said = [pip_settings({"PIP_TIMEOUT": text}, []).timeout_seconds for text in ("2.5", "soon", "-1", "inf", "nan", "")]
    assert said == [2.5, 0, 0, 0, 0, 0]
    assert pip_settings({"PIP_DEFAULT_TIMEOUT": "7"}, []).timeout_seconds == 7
