#!/bin/sh
# container.sh DIR [TARGET...]: builds Perfd's images (slim, firefox) with podman on a base that debootstrap makes, runs each,
# looks at its health and at what it measured, stops it, and starts it again on the same volume. As root. DIR keeps the
# base system; images and containers live in it too, apart from those of this machine.
set -eu
release=${RELEASE:-trixie}
mkdir -p "$1"
work=$(cd "$1" && pwd)
checkout=$(cd "$(dirname "$0")/../.." && pwd)
shift
base=$work/$release.tar
name=perfd-test-$$

# What differs between machines: a limit that may not be set, a runtime that does not know its cgroups.
printf '[containers]\ndefault_ulimits = []\n' > "$work/containers.conf"
export CONTAINERS_CONF="$work/containers.conf"
runtime=crun

podman() {
	command podman --root "$work/containers" --runroot "$work/containers.run" --storage-driver vfs --runtime "$runtime" "$@"
}

step() {
	echo "container: $*"
}

# The memory of all processes of the container, each page counted once, and the largest that was seen, in MiB.
largest=0
memory() {
	now=$(podman exec "$name" sh -c 'cat /proc/[0-9]*/smaps_rollup 2>/dev/null' | awk '/^Pss:/ { n += $2 } END { print int(n / 1024) }')
	test "${now:-0}" -le "$largest" || largest=$now
}

leave() {
	podman rm --force --volumes "$name" > /dev/null 2>&1 || true
	podman volume rm --force "$name" > /dev/null 2>&1 || true
	rm -rf "$work/context"
}
trap leave EXIT

if [ ! -e "$base" ]; then
	step "debootstrap"
	debootstrap --variant=minbase "$release" "$work/$release.base" > "$work/$release.debootstrap.log"
	tar -C "$work/$release.base" -cf "$base.new" .
	rm -rf "$work/$release.base"
	mv "$base.new" "$base"
fi
podman import --quiet "$base" "localhost/perfd-base:$release" > /dev/null
if ! podman run --rm --network=host "localhost/perfd-base:$release" true 2> "$work/runtime.log"; then
	cat "$work/runtime.log"
	runtime=runc
	podman run --rm --network=host "localhost/perfd-base:$release" true
fi
step "podman runs containers here with $runtime"

rm -rf "$work/context"
mkdir "$work/context"
(cd "$checkout" && git ls-files -z | tar -c --null -T - ) | tar -x -C "$work/context"
# pip finds and trusts what it does outside.
{ if [ -e /etc/pip.conf ]; then grep -v '^cert\|^\[global\]' /etc/pip.conf || true; fi; } > "$work/pip.lines"
{ printf '[global]\ncert = /etc/pip-trusts.crt\n'; cat "$work/pip.lines"; } > "$work/pip.conf"

for target in "${@:-slim}"; do
	step "build $target"
	podman build --quiet --format docker --isolation chroot --network host --target "$target" --tag "localhost/perfd:$target" \
		--build-arg "BASE=localhost/perfd-base:$release" --volume "$work/pip.conf:/etc/pip.conf:ro" \
		--volume /etc/ssl/certs/ca-certificates.crt:/etc/pip-trusts.crt:ro \
		-f "$work/context/container/Containerfile" "$work/context" > "$work/$target.build.log" 2>&1 || { tail -30 "$work/$target.build.log"; exit 1; }
	podman image inspect --format '{{.Size}} bytes, health: {{.HealthCheck.Test}}, volumes: {{.Config.Volumes}}' "localhost/perfd:$target"

	step "run $target"
	port=18097
	podman volume create "$name" > /dev/null
	# The ports are those of the host here, so that no network of podman's is needed.
	podman run --rm --network=host --volume "$name:/var/lib/perfd" --entrypoint sed "localhost/perfd:$target" \
		-i "s/:8080/:$port/" perfd.conf
	if [ "$target" = firefox ]; then
		printf '\n[experiment:page]\ntype = pageload\ninterval = 30 s\ntimeout = 29 s\n' > "$work/page.conf"
		podman run --rm --network=host --user root --volume "$name:/var/lib/perfd" --volume "$work/page.conf:/page.conf:ro" \
			--entrypoint sh "localhost/perfd:$target" -c 'cat /page.conf >> perfd.conf'
	fi
	# As much as docs/installing.md says that it needs at most.
	limit=$(test "$target" = firefox && echo 2g || echo 1g)
	podman run --detach --name "$name" --network=host --memory "$limit" --volume "$name:/var/lib/perfd" "localhost/perfd:$target" > /dev/null
	tries=0
	until podman healthcheck run "$name" > "$work/$target.health.log" 2>&1 && podman exec "$name" perfd results --json --limit 5 | grep -q '"ok"'; do
		tries=$((tries + 1))
		test "$tries" -lt 60 || { podman logs --tail 30 "$name"; cat "$work/$target.health.log"; exit 1; }
		sleep 3
	done
	step "healthy after at most $((tries * 3 + 3)) s"
	if [ "$target" = firefox ]; then
		tries=0
		until podman exec "$name" perfd results --json --type pageload --limit 1 | grep -q '"outcome": "ok"'; do
			tries=$((tries + 1))
			test "$tries" -lt 40 || { podman exec "$name" perfd results --type pageload; exit 1; }
			sleep 3
		done
		step "Firefox loads pages"
	fi
	largest=0
	tries=0
	until [ "$tries" = 40 ]; do
		tries=$((tries + 1))
		# Pages for people are made by a process of their own.
		curl -sS --noproxy '*' --header 'Accept: text/html' "http://127.0.0.1:$port/" "http://127.0.0.1:$port/results" > /dev/null
		memory
		sleep 3
	done
	step "memory in two minutes, limit $limit: at most $largest MiB, now $(podman exec "$name" sh -c \
		'for p in /proc/[0-9]*; do echo "$(tr "\0" " " < $p/cmdline | cut -c 1-60) $(awk "/^Pss:/ { print int(\$2 / 1024) }" $p/smaps_rollup)"; done' \
		2> /dev/null | sort | tr '\n' ';')"
	# One process of Perfd's, and it is the first one.
	podman exec "$name" sh -c 'tr "\0" " " < /proc/1/cmdline | grep -q perfd && test "$(cat perfd.pid)" = 1'
	test "$(curl -sS --noproxy '*' --output /dev/null --write-out '%{http_code}' "http://127.0.0.1:$port/random/1")" = 200

	step "stop $target"
	podman stop --time 90 "$name" > /dev/null
	test "$(podman inspect --format '{{.State.ExitCode}}' "$name")" = 0
	before=$(podman run --rm --network=host --volume "$name:/var/lib/perfd" "localhost/perfd:$target" results --csv --limit 100000 | wc -l)
	podman start "$name" > /dev/null
	sleep 5
	podman stop --time 90 "$name" > /dev/null
	after=$(podman run --rm --network=host --volume "$name:/var/lib/perfd" "localhost/perfd:$target" results --csv --limit 100000 | wc -l)
	test "$before" -gt 1
	test "$after" -ge "$before"
	podman rm --volumes "$name" > /dev/null
	podman volume rm "$name" > /dev/null
	step "$target: all is well"
done
