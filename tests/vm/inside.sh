# The first program inside the emulated machine: gives it the files of this one, and then runs /run/out/program.
# The machine has mounted them already, but so that every look at a file asks QEMU; here they are kept in its memory.
set -eu
project=$1
root=/mnt
mount -t 9p -o ro,trans=virtio,version=9p2000.L,access=any,msize=524288,cache=loose files $root
# The project may lie below what the machine has for itself.
mkdir /run/project
mount --bind "$root$project" /run/project
for own in tmp var/tmp var/lib; do
    mount -t tmpfs tmpfs $root/$own
done
chmod 1777 $root/tmp $root/var/tmp
mkdir -p "$root$project"
# Tests write there: into site-packages, for one.
insmod /run/project/target/vm/kernel/lib/modules/*/kernel/fs/overlayfs/overlay.ko
mkdir /run/changes
mount -t tmpfs tmpfs /run/changes
mkdir /run/changes/upper /run/changes/work
mount -t overlay -o lowerdir=/run/project,upperdir=/run/changes/upper,workdir=/run/changes/work overlay "$root$project"
umount /run/project /run/changes
for kept in proc sys dev run; do
    mount --rbind /$kept $root/$kept
done
cd $root
pivot_root . mnt
umount -l /mnt
cd "$project"
ip link set lo up
# As systemd mounts it.
mount -o remount,nsdelegate,memory_recursiveprot /sys/fs/cgroup

set +e
bash /run/out/program >/run/out/said 2>&1 </dev/null
echo $? >/run/out/code
