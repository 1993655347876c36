#!/usr/bin/env bash
# io_uring on Linux 6.18: the rings of all processes of a user share one RLIMIT_MEMLOCK again, across containers.
#
# Expected: since 5.12 a ring's memory is charged to the cgroup, and RLIMIT_MEMLOCK concerns registered buffers alone. A limit that
#   does for one process does for any number, as resource limits are each process's own.
# Happens: on 6.18 io_uring_setup is charged to the user's locked memory, which is counted for the user as a whole and compared with the
#   caller's limit: a second process of the same uid gets ENOMEM because of the rings of the first, though the two share nothing else.
# Why it matters: every sidecar of a node runs under the same uid. With 8 MiB, a common default, some dozens of pods get their rings, and the next one
#   does not start, or falls back to another engine, for reasons that are not in its own container. CAP_IPC_LOCK lifts it.
# Seen on: Linux 6.18 only; elsewhere this script ends with code 3, as earlier and later kernels can differ.
# Source: io_uring/memmap.c (regions are accounted to the user since they hold the rings); getrlimit(2).
# Needs: root (to become another user), python3.
set -euo pipefail
command -v python3 >/dev/null || { echo 'needs python3' >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo 'needs root, to become another user' >&2; exit 2; }
echo "Linux $(uname -r)"
case $(uname -r) in
6.18.*) ;;
*) echo 'recorded on Linux 6.18; this is another kernel' >&2; exit 3 ;;
esac

recorded='64 KiB, alone: ring of 256 entries OK
64 KiB, ring of 4096 entries: ENOMEM
64 KiB, while another process of the user holds three rings of 256: ENOMEM
64 KiB, after that process has ended: OK'
seen=$(python3 - <<'PY'
import ctypes, errno, os, resource, time

IO_URING_SETUP = 425
USER = 54321   # nobody else's
libc = ctypes.CDLL(None, use_errno=True)

def ring(entries):
    fd = libc.syscall(IO_URING_SETUP, entries, ctypes.create_string_buffer(120))
    return "OK" if fd >= 0 else errno.errorcode[ctypes.get_errno()]

def as_user(work):
    """Runs work in a process of the user; returns its words and a function that ends the process."""
    words, tell = os.pipe()
    wait, end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
        os.setgid(USER)
        os.setuid(USER)
        os.write(tell, work().encode())
        os.read(wait, 1)
        os._exit(0)
    os.close(wait)
    os.close(tell)
    return os.read(words, 100).decode(), lambda: (os.close(end), os.waitpid(child, 0))

def once(entries):
    word, finish = as_user(lambda: ring(entries))
    finish()
    return word

def eventually(word, entries):
    for _ in range(50):   # a ring's memory is given back a little after its process
        if once(entries) == word:
            return word
        time.sleep(0.1)
    return once(entries)

print("64 KiB, alone: ring of 256 entries", eventually("OK", 256))
print("64 KiB, ring of 4096 entries:", once(4096))
time.sleep(0.5)
held, finish = as_user(lambda: [ring(256) for _ in range(3)][0])
print("64 KiB, while another process of the user holds three rings of 256:", once(256) if held == "OK" else f"not held: {held}")
finish()
print("64 KiB, after that process has ended:", eventually("OK", 256))
PY
)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
