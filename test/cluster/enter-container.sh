#!/bin/sh
# Makes a container's view of the machine and becomes its command. Runs as root and as process 1 of new mount, PID, UTS
# and IPC namespaces (see container-process.ts), so whatever it mounts vanishes with the container.
#
# The container's root is an overlay over the machine's own: it sees the same programs, what it writes is its own and
# in memory, and mount points may be made anywhere without a trace on the machine.
#
# usage: enter-container.sh LAYER HOSTNAME READONLY MOUNTS SETPRIV-ARGUMENT…
#   LAYER     an empty folder
#   READONLY  yes or no: whether the root is read-only (mounts decide for themselves)
#   MOUNTS    a file with a line per mount: KIND<tab>SOURCE<tab>TARGET, where KIND is
#             keep (a mount of the machine's, taken over), over (a folder of the machine's, seen through an overlay of
#             its own), open (a folder that other users may pass through), rw or ro (a volume)
#   the rest  is what setpriv gets: identity, capabilities, and the command
# Descriptor 3 is told when all is ready and the command comes next.
set -eu
commandPath=$PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin
layer=$1 name=$2 readOnly=$3 mounts=$4
shift 4
tab=$(printf '\t')
root=$layer/root

hostname "$name"
mount -t tmpfs -o mode=755 tessellate-layer "$layer"
mkdir "$layer/upper" "$layer/work" "$root"
# A whiteout hides what the machine has there; the folder made in its place below is empty.
mknod "$layer/upper/tmp" c 0 0
mknod "$layer/upper/run" c 0 0
mount -t overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" tessellate-root "$root"
mkdir -m 1777 "$root/tmp"
mkdir -m 755 "$root/run"
mount -t proc proc "$root/proc"

overlays=0
while IFS=$tab read -r kind source target; do
  case $kind in
  keep)
    mount --rbind "$source" "$root$target"
    continue
    ;;
  over)
    overlays=$((overlays + 1))
    mkdir -p "$layer/upper$overlays" "$layer/work$overlays" "$root$target"
    mount -t overlay -o "lowerdir=$source,upperdir=$layer/upper$overlays,workdir=$layer/work$overlays" \
      tessellate-over "$root$target"
    continue
    ;;
  open)
    chmod o+x "$root$target"
    continue
    ;;
  esac
  # Links such as /var/run -> /run must be followed inside the container's root, not on the machine.
  inside=$root$(chroot "$root" realpath -m -- "$target")
  if [ -d "$source" ]; then
    mkdir -p "$inside"
  else
    mkdir -p "${inside%/*}"
    : >>"$inside"
  fi
  mount --bind "$source" "$inside"
  [ "$kind" = rw ] || mount -o remount,bind,ro "$inside"
done <"$mounts"

[ "$readOnly" = no ] || mount -o remount,ro "$root"
export PATH="$commandPath"
echo running >&3
exec 3>&-
exec /usr/sbin/chroot "$root" /usr/bin/setpriv "$@"
