# A Ceph cluster of one of each, in memory, with its S3 gateway: FOLDER MONITOR-PORT GATEWAY-PORT.
# Everything stays in this process group; whoever ends the group ends it all.
set -eu
dir=$1 monitor=$2 gateway=$3
fsid=$(cat /proc/sys/kernel/random/uuid)
export CEPH_CONF="$dir/ceph.conf"
mkdir -p "$dir/mon" "$dir/osd" "$dir/rgw"
cat >"$CEPH_CONF" <<END
[global]
fsid = $fsid
mon host = v1:127.0.0.1:$monitor
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
run dir = $dir
log file = $dir/\$name.log
admin socket = $dir/\$name.\$pid.asok
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
[mon]
mon data = $dir/mon
[osd]
osd data = $dir/osd
osd objectstore = memstore
memstore device bytes = 2147483648
[client.rgw]
rgw data = $dir/rgw
rgw frontends = beast endpoint=127.0.0.1:$gateway
END
as="--setuser $(id -un) --setgroup $(id -gn)"

monmaptool --create --addv a "[v1:127.0.0.1:$monitor]" --fsid "$fsid" "$dir/monmap"
ceph-mon --mkfs -i a --monmap "$dir/monmap" $as
ceph-mon -f -i a $as &
tries=0
until timeout 5 ceph -s >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "the monitor does not answer"; exit 1; }
    sleep 0.2
done
osd=$(cat /proc/sys/kernel/random/uuid)
ceph osd new "$osd"
ceph-osd -i 0 --mkfs --osd-uuid "$osd"
ceph-osd -f -i 0 $as &
timeout 100 radosgw-admin -n client.rgw user create --uid tests --display-name tests --access-key test --secret test >/dev/null
exec radosgw -f -n client.rgw $as
