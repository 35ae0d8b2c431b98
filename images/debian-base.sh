#!/bin/sh
# Called by mmdebstrap with the folder of the unpacked packages: leaves what a process needs, and says what that is.
set -e
root="$1"

# Only dependencies of maintainer scripts, and no script runs here.
unused="debconf mawk"

# Scanners read this folder where there is no package manager.
mkdir -p "$root/var/lib/dpkg/status.d"
for archive in "$root"/var/cache/apt/archives/*.deb; do
  name=$(dpkg-deb --field "$archive" Package)
  case " $unused " in
    *" $name "*)
      dpkg-deb --fsys-tarfile "$archive" | tar --list | grep -v '/$' | while read -r file; do rm -f "$root/$file"; done
      ;;
    *) dpkg-deb --field "$archive" > "$root/var/lib/dpkg/status.d/$name" ;;
  esac
done

# Character sets that Node brings itself, symbols for debuggers, changes for people. Licences stay.
rm -rf "$root"/usr/lib/*/gconv "$root/usr/share/gcc" "$root/usr/share/gdb" "$root/usr/share/lintian" \
  "$root/usr/share/man" "$root/usr/share/locale" "$root/usr/share/info"
find "$root/usr/share/doc" -type f ! -name copyright -delete
find "$root/usr/share" "$root/etc" -xdev -type d -empty -delete

# Nobody in particular, as whom everything runs.
echo 'root:x:0:0:root:/:/sbin/nologin' > "$root/etc/passwd"
echo 'nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin' >> "$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' > "$root/etc/group"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
