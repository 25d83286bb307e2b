#!/usr/bin/env bash
# A SLURM cluster on this machine alone, for the tests marked `slurm`: two nodes, a partition that preempts another.
#
#   tests/cluster/cluster.sh start DIR     bring it up; its files, keys and logs are in DIR
#   tests/cluster/cluster.sh env DIR       lines to `eval`, so that sbatch and squeue find it
#   tests/cluster/cluster.sh stop DIR      end what start has started
#
# Needs Debian's slurm-wlm and munge, and root; with slurmdbd and mariadb-server there is accounting, too (sacct). All
# daemons listen on the loopback interface only.
set -euo pipefail
command=${1:?start, env or stop} dir=$(realpath -m "${2:?a folder}")

settings() {
  cat <<END
export SLURM_CONF=$dir/slurm.conf
END
}

configure() {
  local host nodes=${NODES:-2} cpus=${CPUS:-2}
  host=$(hostname -s)
  local accounting=AccountingStorageType=accounting_storage/none
  if has_accounting; then
    accounting="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((${PORT:-16817} + 50))
AccountingStoragePass=$dir/munge/munge.socket"
  fi
  mkdir -p "$dir"/{state,spool,log,munge}
  chmod 700 "$dir/munge"
  dd if=/dev/urandom of="$dir/munge/munge.key" bs=1024 count=1 status=none
  chmod 600 "$dir/munge/munge.key"
  cat >"$dir/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/munge.socket,cred_expire=10
CryptoType=crypto/munge
CommunicationParameters=NoInAddrAny
SlurmctldPort=${PORT:-16817}
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0,default_queue_depth=1000
SlurmctldTimeout=10
SlurmdTimeout=10
InactiveLimit=0
KillWait=3
MinJobAge=300
MaxArraySize=50
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
$accounting
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
END
  for i in $(seq "$nodes"); do
    echo "NodeName=n$i NodeAddr=127.0.0.1 NodeHostname=$host Port=$((${PORT:-16817} + i)) CPUs=$cpus RealMemory=2000" >>"$dir/slurm.conf"
  done
  cat >>"$dir/slurm.conf" <<END
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=high Nodes=ALL PriorityTier=10 MaxTime=INFINITE State=UP
END
}

has_accounting() { command -v slurmdbd >/dev/null && command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null; }

start_accounting() {
  mkdir -p "$dir/mysql"
  mariadb-install-db --user="$(id -un)" --datadir="$dir/mysql/data" --auth-root-authentication-method=normal \
    --skip-test-db >"$dir/log/mariadb-install.log" 2>&1
  mariadbd --no-defaults --user="$(id -un)" --datadir="$dir/mysql/data" --socket="$dir/mysql/socket" --skip-networking \
    --pid-file="$dir/mariadbd.pid" --innodb-buffer-pool-size=64M >"$dir/log/mariadbd.log" 2>&1 &
  for _ in $(seq 60); do
    [ -S "$dir/mysql/socket" ] && mariadb --socket="$dir/mysql/socket" -u root -e 'create database if not exists slurm' 2>/dev/null && break
    sleep 0.5
  done
  cat >"$dir/slurmdbd.conf" <<END
AuthType=auth/munge
AuthInfo=socket=$dir/munge/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((${PORT:-16817} + 50))
SlurmUser=root
PidFile=$dir/slurmdbd.pid
LogFile=$dir/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
END
  chmod 600 "$dir/slurmdbd.conf"
  MYSQL_UNIX_PORT=$dir/mysql/socket slurmdbd
  for _ in $(seq 60); do
    sacctmgr -i -n show cluster >/dev/null 2>&1 && break
    sleep 0.5
  done
  sacctmgr -i add cluster test >/dev/null 2>&1 || true
}

start() {
  configure
  munged --key-file="$dir/munge/munge.key" --socket="$dir/munge/munge.socket" --pid-file="$dir/munged.pid" \
    --log-file="$dir/log/munged.log" --seed-file="$dir/munge/seed" --num-threads=2 --force
  eval "$(settings)"
  if has_accounting; then start_accounting; fi
  slurmctld -c
  for i in $(seq "${NODES:-2}"); do slurmd -N "n$i"; done
  for _ in $(seq 60); do
    if sinfo -h -o %T 2>/dev/null | grep -q '^idle'; then return; fi
    sleep 0.5
  done
  echo "the cluster did not come up; see $dir/log" >&2
  tail -5 "$dir"/log/*.log >&2
  exit 1
}

stop() {
  eval "$(settings)"
  scancel --state=PENDING,RUNNING --quiet -u "$(id -un)" 2>/dev/null || true
  for _ in $(seq 20); do
    [ -z "$(squeue -h 2>/dev/null)" ] && break
    sleep 0.5
  done
  for file in "$dir"/slurmd.*.pid "$dir"/slurmctld.pid "$dir"/slurmdbd.pid "$dir"/munged.pid "$dir"/mariadbd.pid; do
    [ -f "$file" ] && kill "$(cat "$file")" 2>/dev/null || true
  done
}

case $command in
  start) start ;;
  env) settings ;;
  stop) stop ;;
  *) echo "start, env or stop" >&2 && exit 2 ;;
esac
