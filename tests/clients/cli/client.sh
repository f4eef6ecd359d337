#!/usr/bin/env bash
# redis-cli -c: client.sh HOST PORT KEYS [SECONDS]. One redis-cli lives as long as a pass does.
set -euo pipefail
host=$1 port=$2 keys=$3 seconds=${4:-}
tls=()
[ -z "${CLIENT_CA:-}" ] || tls=(--tls --cacert "$CLIENT_CA")

# speak VALUE PREFIX: writes and reads every key; prints how many of its replies are not as they should be.
speak() {
    local number
    for ((number = 0; number < keys; number++)); do
        echo "set $2:$number $1"
        echo "get $2:$number"
    done | redis-cli "${tls[@]}" -c -h "$host" -p "$port" 2>&1 | awk -v value="$1" -v keys="$keys" '
        /^-> Redirected/ || $0 == "" { next }
        $0 == "OK" { written++; next }
        $0 == value { read++; next }
        { print > "/dev/stderr" }
        END { bad = 2 * keys - written - read; print bad + 0 }'
}

[ "$(speak value redis-cli)" -eq 0 ] || { echo "some replies were wrong" >&2; exit 1; }
# It knows no masters of its own: those that the cluster shows as owners of slots.
masters=$(redis-cli "${tls[@]}" -h "$host" -p "$port" cluster nodes | awk '$3 ~ /master/ && NF > 8' | wc -l)
echo "ok $keys $masters"
[ -n "$seconds" ] || exit 0

end=$((SECONDS + seconds))
while [ "$SECONDS" -lt "$end" ]; do
    echo "pass $(speak "$(date +%s%N)" redis-cli:loop)"
done
