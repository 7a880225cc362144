# SPDX-License-Identifier: BSD-3-Clause
"""Debian's kernel, its modules and an initrd for the emulated machine. The packages are unpacked
into a cache folder; nothing is installed on the host."""

import glob
import lzma
import os
import re
import shutil
import stat
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
META_PACKAGE = "linux-image-amd64"
# What it takes to mount the root from the host; everything else is loaded from there.
BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")


def _apt(*words, folder=None):
    return subprocess.run(["apt-" + words[0], *words[1:]], cwd=folder, check=True, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout


def _kernel_package():
    """The package with the files of the newest kernel: the meta package names it."""
    said = _apt("cache", "depends", META_PACKAGE)
    found = re.search(r"Depends: (linux-image-\S+)", said)
    if not found:
        raise RuntimeError(f"apt knows no kernel: {META_PACKAGE} depends on none")
    return found.group(1)


class Kernel:
    """`image`, `initrd` and `modules` (the tree's root) below a cache folder."""

    def __init__(self, cache):
        self.cache = cache
        self.package = _kernel_package()
        self.version = self.package.removeprefix("linux-image-")
        self.root = f"{cache}/{self.package}"
        self.image = f"{self.root}/boot/vmlinuz-{self.version}"
        self.modules = f"{self.root}/lib/modules/{self.version}"
        self.busybox = f"{self.root}/bin/busybox"
        self.initrd = f"{self.root}/initrd"

    def make(self):
        """Fetch what is missing, and build the initrd anew."""
        if not os.path.exists(f"{self.modules}/modules.dep"):
            self._unpack()
        self._write_initrd()
        return self

    def _unpack(self):
        fresh = self.root + ".new"
        shutil.rmtree(fresh, ignore_errors=True)
        os.makedirs(fresh)
        # apt's sandbox user may not write below root's folders.
        _apt("get", "-q", "download", self.package, "busybox-static", "-o",
             "APT::Sandbox::User=root", folder=fresh)
        for archive in glob.glob(f"{fresh}/*.deb"):
            subprocess.run(["dpkg-deb", "-x", archive, fresh], check=True)
            os.unlink(archive)
        if not os.path.exists(f"{fresh}/bin/busybox"):      # merged /usr, from Debian 13 on
            os.makedirs(f"{fresh}/bin")
            shutil.copy(f"{fresh}/usr/bin/busybox", f"{fresh}/bin/busybox")
        if os.path.isdir(f"{fresh}/usr/lib/modules"):
            shutil.move(f"{fresh}/usr/lib/modules", f"{fresh}/lib/modules")
        subprocess.run([f"{fresh}/bin/busybox", "depmod", "-b", fresh, self.version], check=True)
        shutil.rmtree(self.root, ignore_errors=True)
        os.rename(fresh, self.root)

    def _module_files(self):
        """Paths of the boot modules, each behind those that it depends on."""
        depends = {}
        with open(f"{self.modules}/modules.dep") as file:
            for line in file:
                path, needed = line.rstrip("\n").split(":")
                depends[path] = needed.split()
        by_name = {os.path.basename(path).split(".")[0].replace("-", "_"): path
                   for path in depends}
        ordered = []

        def add(path):
            for needed in depends[path]:
                add(needed)
            if path not in ordered:
                ordered.append(path)

        for name in BOOT_MODULES:
            if name in by_name:                 # else it is built in
                add(by_name[name])
        return ordered

    def _write_initrd(self):
        names = []
        archive = Cpio()
        for folder in ("bin", "modules", "dev", "proc", "lower", "upper", "root"):
            archive.add(folder, stat.S_IFDIR | 0o755)
        with open(self.busybox, "rb") as file:
            archive.add("bin/busybox", stat.S_IFREG | 0o755, file.read())
        for path in self._module_files():
            opened = lzma.open if path.endswith(".xz") else open
            names.append(os.path.basename(path).removesuffix(".xz"))
            with opened(f"{self.modules}/{path}", "rb") as file:
                archive.add(f"modules/{names[-1]}", stat.S_IFREG | 0o644, file.read())
        archive.add("modules/order", stat.S_IFREG | 0o644, "\n".join(names).encode() + b"\n")
        with open(f"{HERE}/init", "rb") as file:
            archive.add("init", stat.S_IFREG | 0o755, file.read())
        with open(self.initrd, "wb") as file:
            file.write(archive.close())


class Cpio:
    """An archive in the "newc" format (cpio(5)), which the kernel unpacks as its first root."""

    def __init__(self):
        self.data = bytearray()
        self.inode = 0

    def add(self, name, mode, content=b""):
        self.inode += 1
        encoded = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        self.data += b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
        self._align()
        self.data += content
        self._align()

    def _align(self):
        self.data += b"\0" * (-len(self.data) % 4)

    def close(self):
        self.add("TRAILER!!!", 0)
        return self.data
