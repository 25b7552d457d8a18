# Shared by the scripts in this folder; sourced, never run.

# The Debian release that images and plugins are made of.
SUITE=trixie

say() { printf '%s\n' "tamada: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

# The package mirror that this machine itself uses, so that a local mirror or a proxy holds here too.
debian_mirror() {
    local mirror
    mirror=$(apt-get update --print-uris -o Debug::NoLocking=true 2>/dev/null |
        sed -n "s|^'\\(.*/debian\\)/dists/[^/']*/InRelease'.*|\\1|p" | head -n 1)
    [ -n "$mirror" ] && printf '%s\n' "$mirror"
}

is_debian() { (. /etc/os-release && [ "$ID" = debian ]) 2>/dev/null; }

# compose ARGUMENT…: docker compose on our project, wherever it is called from.
compose() { docker compose --project-directory "$ROOT/compose" --file "$ROOT/compose/compose.yaml" "$@"; }

# configured KEY: what Compose makes of the environment, compose/.env and its defaults for a key of compose.yaml that has
# the same value everywhere.
configured() { compose config | sed -n "s/^ *$1: //p" | sort -u; }

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
