// What to do about an alarm that does not say it by itself. A test holds that each of these words
// is said by some alarm. The command lines name the cluster that the alarm is of.

const KNOWN = [
    {
        alarm: "nobody can take over",
        remedy: "Bring a node of this shard back that has its data: it takes over by itself. Only if all of that data is gone: `holdfast ctl shard accept-loss SHARD --node NODE PLACE` shows what would be given up.",
    },
    {
        alarm: "and no replica has more",
        remedy: "Bring the node back that has the newest data. If it is gone for good: `holdfast ctl shard accept-loss SHARD --node NODE PLACE` shows what would be given up.",
    },
    {
        alarm: "does not answer: its host is away",
        remedy: "Look at its host, then at the process there: `systemctl status holdfast-node`. Exit code 74 is a full or failing disk, 71 a limit of files or memory. It follows by itself once it is back.",
    },
    {
        alarm: "does not follow its master",
        remedy: "A full sync ends by itself. Else look at the log of that replica, at its `masterauth`, and at the network between the two.",
    },
    {
        alarm: "in sync of",
        remedy: "Bring the missing replicas back. If that takes long, fewer copies may do for a while: `holdfast ctl set cluster --min-in-sync NUMBER PLACE`.",
    },
    {
        alarm: "takes nothing",
        remedy: "Look at that disk. The node was replaced if another one could take over, and follows by itself once the disk goes on.",
    },
    {
        alarm: "automatic failover is paused by an operator",
        remedy: "When the work is done, let failovers happen again: `holdfast ctl resume cluster PLACE`, or the button below, which operators have.",
    },
    {
        alarm: "is reached only through its replica",
        remedy: "Mend the network between the controller and that node. The shard serves meanwhile.",
    },
    {
        alarm: "does not advance: it waits for",
        remedy: "What it waits for is to be mended first. Below it can be paused or, as long as its slots have not changed hands, cancelled.",
    },
    {
        alarm: "is not reached by",
        remedy: "Mend the network between that load balancer and the node. Where a replica is reached by all, it takes over by itself.",
    },
    {
        alarm: "the store does not work, so nobody fails over",
        remedy: "Healthy shards go on. Make room on the controller's disk, or bring its etcd back: it goes on by itself.",
    },
    {
        alarm: "so this controller does not look after it",
        remedy: "Mostly a later version has written it: upgrade this controller.",
    },
    {
        alarm: "holds data of another history",
        remedy: "`holdfast ctl events PLACE` says what became of this shard; see \"A node that comes back without its data\" in docs/operating.md.",
    },
    {
        alarm: "is to be removed and does not close",
        remedy: "Make it answer, or end its process and then: `holdfast ctl balancer remove NAME --force PLACE`.",
    },
];

const OF_BALANCER = "Is it running and reachable, and its token right? Until it answers, a failover waits for the lease, about a second.";
const OF_NODE = "The node lives, and is not replaced for this. Look at its log.";

/** Options of `ctl` that name a cluster. */
const place = (cluster) => (cluster === undefined ? "" : `-n ${cluster.namespace} -c ${cluster.name}`);

/** Whether an alarm only repeats what a balancer or a node says of itself. */
function isOf(alarm, status) {
    if (status.balancers.some((one) => alarm === `balancer ${one.name}: ${one.error}`)) return OF_BALANCER;
    const nodes = status.shards.flatMap((shard) => shard.nodes);
    return nodes.some((one) => one.error !== null && alarm === `${one.addr}: ${one.error}`) ? OF_NODE : "";
}

/** What to do about an alarm of a cluster, or of the controller; empty where it says so itself. */
export function remedy(alarm, cluster, status) {
    const found = KNOWN.find((one) => alarm.includes(one.alarm))?.remedy ?? "";
    const told = found === "" && status !== undefined ? isOf(alarm, status) : found;
    const shard = /^shard (\d+):/.exec(alarm)?.[1] ?? "SHARD";
    return told.replaceAll("PLACE", () => place(cluster)).replaceAll("SHARD", shard);
}
