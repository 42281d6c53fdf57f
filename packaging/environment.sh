# Sourced by run and test: makes .venv from hash-locked requirements and puts the system's libraries in place.
# Nothing is asked of the network when the stamp in .venv says that this lock, this Python and this folder are done.

say() { printf 'engine-room: %s\n' "$*" >&2; }
stop() { say "$*"; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

recent_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# Prints a Python of 3.11 or newer: one that is there, else a private one under .python.
find_python() {
    for candidate in ${ENGINE_ROOM_PYTHON:-} python3 python3.13 python3.12 python3.11 "$top"/.python/*/bin/python3; do
        found=$(command -v "$candidate" 2>/dev/null) && recent_enough "$found" && { printf '%s\n' "$found"; return; }
    done
    say "no Python 3.11 or newer here; bringing a private one into $top/.python (uv, about 35 MB)"
    uv=$(find_uv) || return 1
    "$uv" python install --install-dir "$top/.python" --no-bin 3.12 >&2 || return 1
    for found in "$top"/.python/*/bin/python3; do recent_enough "$found" && { printf '%s\n' "$found"; return; }; done
    return 1
}

# Prints uv: the one on PATH, else its own installer's, into .python.
find_uv() {
    command -v uv && return
    [ -x "$top/.python/uv" ] && { printf '%s\n' "$top/.python/uv"; return; }
    if command -v curl >/dev/null; then fetch="curl -fsSL"
    elif command -v wget >/dev/null; then fetch="wget -qO-"
    else say "neither uv nor curl nor wget is here to bring it"; return 1; fi
    mkdir -p "$top/.python"
    $fetch https://astral.sh/uv/install.sh >"$top/.python/install-uv.sh" \
        && UV_INSTALL_DIR="$top/.python" UV_NO_MODIFY_PATH=1 sh "$top/.python/install-uv.sh" >&2 \
        && printf '%s\n' "$top/.python/uv"
}

# Makes .venv with pip in it. Debian and Ubuntu keep a part of Python's own venv module in a package of its own.
make_venv() {
    say "making $top/.venv with $("$python" --version)"
    "$python" -m venv "$top/.venv" >/dev/null 2>&1 && return
    rm -rf "$top/.venv"
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if is_root && command -v apt-get >/dev/null; then
        say "Python's venv module is incomplete: installing python$version-venv with apt-get"
        apt_install "python$version-venv" && "$python" -m venv "$top/.venv" >/dev/null 2>&1 && return
        rm -rf "$top/.venv"
    fi
    say "Python's venv module is incomplete (python$version-venv is missing): making the environment without it"
    "$python" -m venv --without-pip "$top/.venv" || stop "Python cannot make an environment in $top/.venv."
    if "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m pip --python "$top/.venv/bin/python" install --quiet pip >&2 && return
    elif uv=$(command -v uv); then
        "$uv" pip install --quiet --python "$top/.venv/bin/python" pip >&2 && return
    else
        "$top/.venv/bin/python" "$top/packaging/bring_pip.py" && return
    fi
    rm -rf "$top/.venv"
    stop "There is no pip to fill the environment with. Run: sudo apt-get install python$version-venv   and start again."
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >/dev/null 2>&1 || say "apt-get update failed; trying with the lists that are there"
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

stamp_of() { { cat "$1"; printf '%s\n%s\n' "$top" "$("$top/.venv/bin/python" -VV)"; } | sha256sum | cut -d' ' -f1; }

# install_locked LOCK: the packages of a lock into .venv; a lock whose stamp is there costs nothing.
install_locked() {
    lock=$1; name=$(basename "$lock" .txt); stamp=$top/.venv/.$name.stamp; log=$top/.venv/$name.log
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(stamp_of "$lock")" ] && return
    say "installing $(grep -c == "$lock") locked packages ($name)"
    rm -f "$stamp"
    { "$top/.venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
        --only-binary :all: --require-hashes -r "$lock" 2>&1 && touch "$stamp"; } \
        | tee "$log" | sed -nE 's/^Collecting ([^ ;]*).*/  \1/p; s|^Processing .*/([^/-]+-[^/-]+)-[^/]*\.whl.*|  \1|p; s/^Installing collected packages.*/  putting them in place …/p' >&2
    [ -f "$stamp" ] || { grep -E '^ERROR|^WARNING: Retrying' "$log" | tail -5 >&2 || true
        stop "the packages could not be installed; $log has it all. Check the network or pip's index settings, then start again."; }
    stamp_of "$lock" >"$stamp"
}

# Our own package: a path file and the command, because an editable install would need a build.
link_project() {
    site=$("$top/.venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    printf '%s\n' "$top" >"$site/engine_room.pth"
    printf '#!%s\nfrom app.cli import main\n\nmain()\n' "$top/.venv/bin/python" >"$top/.venv/bin/engine-room"
    chmod +x "$top/.venv/bin/engine-room"
}

# prepare LOCK…: everything that Python needs.
prepare() {
    [ "$(uname -s)" = Linux ] || stop "Engine Room runs on Linux (also under WSL2)."
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | sed 's/glibc 2\.//')
    case $glibc in ''|*[!0-9]*) ;; *) [ "$glibc" -ge 34 ] || stop "glibc 2.34 or newer is needed (Debian 12, Ubuntu 22.04); here it is 2.$glibc." ;; esac
    [ -w "$top" ] || [ -f "$top/.venv/.requirements.stamp" ] || stop "$top is not writable for you; clone Engine Room into a folder of your own."
    moved=$(cat "$top/.venv/.place" 2>/dev/null || printf '%s' "$top")
    if [ "$moved" != "$top" ] || ! recent_enough "$top/.venv/bin/python"; then
        python=$(find_python) || stop "Python 3.11 or newer is needed. Run: sudo apt-get install python3 python3-venv   and start again."
        rm -rf "$top/.venv"  # of another folder or of a Python that is gone
        make_venv
        printf '%s' "$top" >"$top/.venv/.place"
    fi
    for lock in "$@"; do install_locked "$lock"; done
    [ -x "$top/.venv/bin/engine-room" ] || link_project
}

# system_libraries [--display]: installs what Qt and the engine miss where we may, else prints the line and stops.
system_libraries() {
    packages=$(cd "$top" && "$top/.venv/bin/python" -m app.daemon.system_libraries "$@" | tr '\n' ' ')
    [ -z "$packages" ] && return
    if is_root && command -v apt-get >/dev/null; then
        say "installing system libraries that Qt needs: $packages"
        # shellcheck disable=SC2086
        apt_install $packages || stop "apt-get could not install them. Run: apt-get install $packages"
        return
    fi
    stop "Qt misses system libraries. Run: sudo apt-get install $packages  and start again."
}
