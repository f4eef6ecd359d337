// What operators do here: each act says first what it will do, and is done only if what it was
// said about is still so.

import {act} from "./ask.js";
import {bytes, count, slotsIn, span} from "./parts.js";

const master = (shard) => shard.nodes.find((node) => node.role === "master");
const named = (status) => `${status.namespace}/${status.name}`;
/** A shard by its lasting id; one that has none yet by where it stands. */
const nameOf = (shard) => (/^0*$/.test(shard.id) ? String(shard.index) : shard.id);

/** What becomes of clients whose node changes its role. */
function ofClients(status) {
    const kinds = new Set(status.balancers.map((one) => one.kind));
    if (kinds.size === 0) return "Clients are redirected by the nodes.";
    if (kinds.has("haproxy")) return "HAProxy cuts the clients of both nodes; they connect again.";
    return "The load balancers move the sessions of clients, which see a pause and no error; those whose TLS ends at the node are cut, and connect again.";
}

function switchOver({shard: index, node: id}, {status, path}) {
    const shard = status.shards.find((one) => String(one.index) === index);
    const [to, from] = [shard?.nodes.find((node) => node.id === id), shard && master(shard)];
    if (!to || !from) return undefined;
    return {
        title: `Make ${to.addr} the master of shard ${shard.index}`,
        words: [
            `In cluster ${named(status)} it takes the place of ${from.addr}, which follows it from then on.`,
            `Writes to ${count(slotsIn(shard.slot_ranges), "slot")} wait meanwhile, mostly for some ten ms and never for more than 3 s. No acknowledged write is lost: if it has not caught up within a second, nothing is changed.`,
            ofClients(status),
        ],
        yes: "Make it the master",
        still(now) {
            const same = now.shards.find((one) => nameOf(one) === nameOf(shard));
            const leads = same && master(same);
            return leads?.id === from.id ? "" : `Meanwhile ${leads?.addr ?? "no node"} is the master of this shard: look again.`;
        },
        async run() {
            const done = await act("POST", `${path}/shards/${nameOf(shard)}/failover`, {preferred_node_id: id});
            const waited = done.stall_ms === undefined ? "" : `; writes waited ${span(done.stall_ms)}`;
            const moved = done.moved === undefined ? "" : `; ${count(done.moved, "session")} moved, ${done.cut ?? 0} cut`;
            return `${to.addr} is the master of shard ${shard.index}${waited}${moved}.`;
        },
    };
}

function pause(_, {status, path}) {
    return {
        title: `Pause failovers of ${named(status)}`,
        words: [
            "A master that fails is not replaced from then on, and load balancers that miss one move nothing, until somebody lets failovers happen again. What is in order goes on to serve, and planned switchovers work as ever.",
            "An alarm stays as long as this lasts.",
        ],
        field: "Why, and until when (others read it in the alarm)",
        yes: "Pause failovers",
        isGrave: true,
        async run(reason) {
            await act("PATCH", path, {paused: true, reason});
            return `No failover of ${named(status)} happens by itself any more.`;
        },
    };
}

function resume(_, {status, path}) {
    return {
        title: `Let failovers of ${named(status)} happen again`,
        words: ["A master that is down is replaced at once if a replica can take over."],
        yes: "Let them happen",
        async run() {
            await act("PATCH", path, {paused: false});
            return `Failovers of ${named(status)} happen by themselves again.`;
        },
    };
}

const mine = (status, id) => status.moves?.find((one) => String(one.id) === id);

/** An act on a move, as long as its slots have not changed hands. */
const ofMove = (made) => ({move: id}, site) => {
    const move = mine(site.status, id);
    if (!move) return undefined;
    const still = (now) => {
        const state = mine(now, id)?.state;
        return state === "queued" || state === "copy" ? "" : "This move is over, or its slots have changed hands meanwhile.";
    };
    return {still, ...made(move, `${site.path}/moves/${id}`)};
};

const between = (move) => `shard ${move.from_index ?? move.from} to shard ${move.to_index ?? move.to}`;

const pauseMove = ofMove((move, path) => ({
    title: `Pause move ${move.id}`,
    words: [`It copies no more from ${between(move)} and hands nothing over, until it is let go on. The slots stay where they are, and clients notice nothing.`],
    yes: "Pause it",
    async run() {
        await act("PATCH", path, {paused: true});
        return `Move ${move.id} is paused.`;
    },
}));

const resumeMove = ofMove((move, path) => ({
    title: `Let move ${move.id} go on`,
    words: [`Its slots are copied from ${between(move)} and handed over.`],
    yes: "Let it go on",
    async run() {
        await act("PATCH", path, {paused: false});
        return `Move ${move.id} goes on.`;
    },
}));

const cancelMove = ofMove((move, path) => ({
    title: `Cancel move ${move.id}`,
    words: [
        `Slots ${move.slots} stay with shard ${move.from_index ?? move.from}, which has all of their data and serves them. What shard ${move.to_index ?? move.to} has copied of them is deleted there, and a later move copies it anew.`,
        "Clients notice nothing.",
    ],
    yes: "Cancel it",
    isGrave: true,
    async run() {
        await act("DELETE", path);
        return `Move ${move.id} is cancelled.`;
    },
}));

/** Moves that a dialog names one by one. */
const NAMED_MAX = 8;

function wish(status, {slots, from, to, bytes: weight}) {
    const index = (id) => status.shards.find((one) => one.id === id)?.index ?? id;
    const weighs = weight === undefined ? "" : `, ${bytes(weight)}`;
    return `Slots ${slots} from shard ${index(from)} to shard ${index(to)}${weighs}.`;
}

/** What is queued is exactly what was shown. */
async function shareOut(_, {status, path}) {
    const shown = await act("POST", `${path}/rebalance`, {dry: true});
    if (shown.moves.length === 0) return {notice: `The slots of ${named(status)} are shared out evenly: none has to move.`};
    const more = shown.moves.length - NAMED_MAX;
    return {
        title: `Share the slots of ${named(status)} out evenly`,
        words: [
            `${count(shown.slots, "slot")} move to other shards, with their data, in ${count(shown.moves.length, "move")}:`,
            ...shown.moves.slice(0, NAMED_MAX).map((one) => wish(status, one)),
            ...(more > 0 ? [`And ${more} more.`] : []),
            ...(shown.notes ?? []),
            "Clients go on meanwhile; commands to a slot wait for a moment when it changes hands. Moves can be paused, and cancelled until then.",
        ],
        yes: "Queue these moves",
        still: (now) => (now.version === status.version && (now.moves ?? []).length === 0
            ? "" : "Meanwhile the topology has changed, or slots move already: look again."),
        async run() {
            const moves = shown.moves.map(({slots, from, to}) => ({slots, from, to}));
            const done = await act("POST", `${path}/moves`, {moves});
            return `${count(done.moves.length, "move")} queued.`;
        },
    };
}

/** By the names that buttons have; some ask the controller first. */
export const ACTS = {
    "switch": switchOver,
    pause,
    resume,
    "move-pause": pauseMove,
    "move-resume": resumeMove,
    "move-cancel": cancelMove,
    "share-out": shareOut,
};
