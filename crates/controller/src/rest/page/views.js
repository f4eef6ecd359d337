// What is shown of clusters: elements made of what the controller tells.

import {badge, bytes, count, h, moment, prose, ranges, role, short, slotsIn, span} from "./parts.js";
import {remedy} from "./remedies.js";

/** Alarms that are listed at the top, and shards above which those in order are folded. */
const ALARMS_MAX = 30;
const SHARDS_MAX = 24;

const WORST_FIRST = ["bad", "warn", "busy", "good", "dull"];

/** How a cluster is, by its line in the overview. */
export function judge(cluster) {
    if (cluster.stuck > 0) return {level: "bad", word: "stuck"};
    if (cluster.healthy) return {level: "good", word: "healthy"};
    if (cluster.paused !== undefined && cluster.alarms.length === 1) return {level: "warn", word: "paused"};
    return {level: "warn", word: "degraded"};
}

/** The worst first; those that are alike stay in their order. */
export function worstFirst(clusters) {
    const rank = (one) => WORST_FIRST.indexOf(judge(one).level);
    return clusters.toSorted((one, other) => rank(one) - rank(other));
}

export const nameOf = (cluster) => `${cluster.namespace}/${cluster.name}`;
export const hrefOf = (cluster) =>
    `#/${encodeURIComponent(cluster.namespace)}/${encodeURIComponent(cluster.name)}`;

/** All of it in one line. */
export function overall(overview) {
    const {clusters, alarms} = overview;
    const ill = clusters.filter((one) => !one.healthy).length;
    const stuck = clusters.filter((one) => one.stuck > 0).length;
    const level = stuck > 0 ? "bad" : ill > 0 || alarms.length > 0 ? "warn" : "good";
    if (alarms.length > 0 && ill === 0) return {level, word: "the controller needs attention"};
    if (clusters.length === 0) return {level: "dull", word: "no cluster yet"};
    if (ill > 0) return {level, word: `${ill} of ${count(clusters.length, "cluster")} ${ill === 1 ? "needs" : "need"} attention`};
    return {level, word: clusters.length === 1 ? "healthy" : `all ${count(clusters.length, "cluster")} are healthy`};
}

/** The list of clusters, by namespace. */
export function clusters(overview, chosen) {
    const spaces = [...new Set(overview.clusters.map((one) => one.namespace))];
    return spaces.map((space) => h("section", {"data-key": space},
        h("h2", null, space),
        h("ul", null, worstFirst(overview.clusters.filter((one) => one.namespace === space))
            .map((one) => clusterLine(one, chosen)))));
}

function clusterLine(cluster, chosen) {
    const {level, word} = judge(cluster);
    const isChosen = chosen !== undefined && nameOf(chosen) === nameOf(cluster);
    const down = cluster.down > 0 ? `, ${cluster.down} down` : "";
    const moves = cluster.moves > 0 ? `, ${count(cluster.moves, "move")}` : "";
    return h("li", {"data-key": cluster.name},
        h("a", {href: hrefOf(cluster), "aria-current": isChosen && "page"},
            h("b", null, cluster.name), " ", badge(level, word),
            h("small", null, `${count(cluster.shards, "shard")}, ${count(cluster.nodes, "node")}${down}${moves}`)));
}

/** What is wrong, the worst first, each with what to do about it. */
export function wrong(overview, status) {
    const told = overview.alarms.map((alarm) => attention("controller", "the controller", alarm, remedy(alarm)));
    for (const cluster of worstFirst(overview.clusters)) {
        const seen = status !== undefined && nameOf(status) === nameOf(cluster) ? status : undefined;
        const link = h("a", {href: hrefOf(cluster)}, nameOf(cluster));
        for (const alarm of cluster.alarms) {
            told.push(attention(nameOf(cluster), link.cloneNode(true), alarm, remedy(alarm, cluster, seen)));
        }
        if (!cluster.healthy && cluster.alarms.length === 0) {
            told.push(attention(nameOf(cluster), link, seen === undefined ? "is not as it should be" : reasons(seen), ""));
        }
    }
    const more = told.length - ALARMS_MAX;
    if (more <= 0) return told;
    return [...told.slice(0, ALARMS_MAX), h("li", {"data-key": "more"}, `and ${count(more, "more alarm")}: the list of clusters shows where`)];
}

function attention(key, of, text, todo) {
    return h("li", {"data-key": `${key} ${text}`},
        h("p", null, of, ": ", prose(text)),
        todo !== "" && h("p", {class: "todo"}, h("b", null, "What to do: "), prose(todo)));
}

/** Why a cluster without an alarm is not healthy: mostly something that is about to pass. */
function reasons(status) {
    const found = [];
    for (const shard of status.shards) {
        const detail = shard.detail === "" ? "" : ` (${shard.detail})`;
        if (shard.state !== "steady") found.push(`shard ${shard.index} is ${shard.state}${detail}`);
        else if (shard.degraded) found.push(`a node of shard ${shard.index} is not in its in-sync set`);
        const late = shard.nodes.filter((node) => !node.settled).map((node) => node.addr);
        if (late.length > 0) found.push(`${late.join(", ")} ${late.length === 1 ? "has" : "have"} not settled in`);
    }
    found.push(...status.balancers.filter((one) => !one.in_force).map((one) => `balancer ${one.name} does not do yet what it was told`));
    return found.length === 0 ? "is not as it should be" : found.join("; ");
}

/** All of a cluster. `may`: somebody may act, and on something that is heard. */
export function cluster({status, events, eventsFault, line, may, isAll, isHistory}) {
    const {level, word} = judge(line);
    return [
        h("header", {class: "head", "data-key": "head"},
            h("h2", null, nameOf(status), " ", badge(level, word)),
            facts(status),
            may && pausing(line)),
        part("slots", "Slots", slotBar(status), may && status.shards.length > 1 && (status.moves ?? []).length === 0
            && h("p", {class: "tools"}, button("share-out", {}, "Share out evenly …"))),
        part("shards", "Shards", shards(status, may, isAll)),
        part("moves", "Slots that move", moves(status, may)),
        part("balancers", "Load balancers", balancers(status)),
        part("events", "Events", eventList(events, eventsFault, isHistory)),
    ];
}

function part(key, title, ...content) {
    return h("section", {"data-key": key, class: key, "aria-labelledby": `title-${key}`}, h("h3", {id: `title-${key}`}, title), content);
}

function facts(status) {
    const isInSync = status.commit_mode === "in-sync";
    const known = [
        ["Commit", isInSync ? `in-sync, at least ${status.min_in_sync}` : status.commit_mode],
        ["Topology", `version ${status.version}`],
        ["Controller", `term ${status.term}`],
    ];
    return h("dl", {class: "facts"}, known.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

function pausing(line) {
    const isPaused = line.paused !== undefined;
    return h("p", {class: "tools"}, button(isPaused ? "resume" : "pause", {}, isPaused ? "Let failovers happen again" : "Pause failovers"));
}

function button(act, data, words) {
    const given = Object.entries(data).map(([key, value]) => [`data-${key}`, value]);
    return h("button", {type: "button", "data-act": act, ...Object.fromEntries(given)}, words);
}

/** The slots as a bar, by shard; below it those that move. The table of shards has them in words. */
function slotBar(status) {
    const made = document.getElementById("bar").content.firstElementChild.cloneNode(true);
    const pattern = made.firstElementChild;
    pattern.remove();
    const add = (texts, kind, words) => {
        for (const [first, last] of ranges(texts)) {
            const one = pattern.cloneNode(true);
            one.setAttribute("x", first);
            one.setAttribute("width", last - first + 1);
            one.setAttribute("class", kind);
            one.firstElementChild.textContent = `${words}: ${first} to ${last}`;
            made.append(one);
        }
    };
    for (const shard of status.shards) add(shard.slot_ranges, `s${shard.index % 8}`, `shard ${shard.index}`);
    for (const move of status.moves ?? []) {
        if (move.state === "queued" || move.state === "copy") add(move.slots.split(","), "moving", `move ${move.id}`);
    }
    const shares = status.shards.map((shard) => `shard ${shard.index} has ${slotsIn(shard.slot_ranges)}`);
    made.setAttribute("aria-label", `16,384 slots: ${shares.join(", ")}`);
    return made;
}

const isCalm = (shard) =>
    shard.state === "steady" && !shard.degraded && shard.nodes.every((node) => node.health === "up" && node.settled);

/** A table whose rows may be blocks on a narrow screen: then browsers forget that it is one. */
function table(name, heads, bodies) {
    const head = h("tr", {role: "row"}, heads.map((words) => h("th", {scope: "col", role: "columnheader"}, words)));
    return h("table", {role: "table", class: name}, h("thead", {role: "rowgroup"}, head), bodies);
}

function cell(label, ...content) {
    return h("td", {role: "cell", "data-label": label}, content);
}

const SHARD_HEADS = ["Shard", "Role", "Node", "Clients connect to", "Health", "In sync", "Lag", "Lease"];

function shards(status, may, isAll) {
    const calm = status.shards.filter(isCalm).length;
    const isFolded = status.shards.length > SHARDS_MAX && calm > 0;
    const shown = isFolded && !isAll ? status.shards.filter((shard) => !isCalm(shard)) : status.shards;
    const heads = may ? [...SHARD_HEADS, "Act"] : SHARD_HEADS;
    return [
        isFolded && h("p", {class: "tools"}, h("button", {type: "button", "data-all": isAll ? "no" : "yes"},
            isAll ? "Fold shards in order" : `Show also ${count(calm, "shard")} in order`)),
        shown.length > 0 && table("shards", heads, shown.map((shard) => oneShard(status, shard, may))),
    ];
}

function oneShard(status, shard, may) {
    const nodes = shard.nodes.toSorted((one, other) => (other.role === "master") - (one.role === "master"));
    const told = nodes.flatMap((node) => notes(status, node).map((note) => `${node.addr}: ${note}`));
    if (shard.detail !== "") told.unshift(shard.detail);
    const rows = nodes.map((node, place) => h("tr", {role: "row", "data-key": node.id},
        place === 0 && shardHead(status, shard, nodes.length), nodeCells(status, shard, node, may)));
    const width = SHARD_HEADS.length + (may ? 1 : 0);
    const note = h("tr", {role: "row", class: "note", "data-key": "note"},
        h("td", {role: "cell", colspan: width}, told.map((text) => h("p", null, prose(text)))));
    return h("tbody", {role: "rowgroup", "data-key": `${shard.index} ${shard.id}`}, rows, told.length > 0 && note);
}

const STATES = {settling: "busy", suspect: "busy", fencing: "busy", switchover: "busy", stuck: "bad"};

function shardHead(status, shard, size) {
    const isShort = shard.state === "steady" && shard.degraded;
    const mark = isShort ? badge("warn", "degraded") : badge(STATES[shard.state] ?? "good", shard.state);
    const slots = slotsIn(shard.slot_ranges);
    const spans = shard.slot_ranges.length === 0 ? "no slots" : `${count(slots, "slot")}: ${shard.slot_ranges.join(", ")}`;
    const inSync = status.commit_mode === "in-sync" ? `, ${shard.in_sync.length} of ${size} in sync` : "";
    return h("th", {scope: "rowgroup", role: "rowheader", rowspan: size},
        h("span", {class: `chip s${shard.index % 8}`, "aria-hidden": "true"}), ` ${shard.index} `, mark,
        h("small", null, spans), h("small", null, `epoch ${shard.epoch}${inSync}`));
}

const withTls = (address, port) => (port === undefined ? address : `${address}/${port}`);

function nodeCells(status, shard, node, may) {
    const isMember = shard.in_sync.includes(node.id);
    const isCounted = shard.in_sync.length > 0 || status.commit_mode === "in-sync";
    const isLed = node.role === "master" && node.answer?.role === "master";
    const canLead = node.role === "slave" && node.health === "up" && node.settled && shard.state === "steady"
        && (isMember || status.commit_mode !== "in-sync");
    return [
        cell("Role", h("b", {class: node.role}, role(node.role))),
        cell("Node", withTls(node.addr, node.tls_port), " ", short(node.id)),
        cell("Clients connect to", node.announced === null ? "–" : withTls(node.announced, node.announced_tls_port)),
        cell("Health", health(node)),
        cell("In sync", !isCounted ? "–" : isMember ? "yes" : badge("warn", "no")),
        cell("Lag", node.lag === null ? "–" : count(node.lag, "write")),
        cell("Lease", !isLed ? "–" : node.answer.lease_mode === "disabled" ? "not asked for" : span(node.answer.lease_remaining_ms)),
        may && cell("Act", canLead && button("switch", {shard: shard.index, node: node.id}, "Make master")),
    ];
}

const HEALTH = {up: "good", suspect: "busy", down: "bad"};

function health(node) {
    const ago = node.health !== "up" && node.answer !== null ? `, heard ${span(node.answer.age_ms)} ago` : "";
    return badge(HEALTH[node.health] ?? "dull", `${node.health}${ago}`);
}

/** What is not as it should be at a node. */
function notes(status, node) {
    const found = [];
    const {answer} = node;
    // What it said before it fell silent is no news.
    if (answer !== null && !(node.health === "down" && node.misses > 0)) {
        if (answer.role !== node.role) found.push(`answers as ${role(answer.role)}`);
        if (answer.version !== status.version) found.push(`has version ${answer.version} of the topology`);
        if (answer.resync !== "none") found.push(`resync ${answer.resync}`);
        if (node.role === "slave" && answer.link_status !== "up") {
            found.push(`no stream from its master: ${answer.link_error ?? `link ${answer.link_status}`}`);
        }
        if (answer.log_wait_ms > 0) found.push(`its disk has taken nothing for ${span(answer.log_wait_ms)}`);
        if (answer.paused) found.push("writes are paused");
        if (answer.loading) found.push("is replacing its data");
    }
    if (answer?.deposed) found.push("keeps replaced data in `db.deposed`");
    if (node.error !== null) found.push(node.error);
    return found;
}

function balancers(status) {
    if (status.balancers.length === 0) return h("p", {class: "quiet"}, "None is listed: clients reach the nodes themselves.");
    const heads = ["Name", "Kind", "Driven at", "State", "Addresses"];
    const rows = status.balancers.map((one) => h("tr", {role: "row", "data-key": one.name},
        h("th", {scope: "row", role: "rowheader"}, one.name),
        cell("Kind", one.kind),
        cell("Driven at", one.endpoint),
        cell("State", one.in_force ? badge("good", "as it was told") : badge("warn", "not yet as it was told"), one.error !== null && h("p", {class: "fault"}, one.error)),
        cell("Addresses", frontends(status, one))));
    return table("balancers", heads, h("tbody", {role: "rowgroup"}, rows));
}

function frontends(status, balancer) {
    const addresses = new Map(status.shards.flatMap((shard) => shard.nodes).map((node) => [node.id, node.addr]));
    const open = balancer.frontends.filter((one) => one.node !== null).length;
    const faults = balancer.frontends.filter((one) => one.error !== undefined);
    const list = balancer.frontends.map((one) => h("li", {"data-key": one.listen},
        `${one.listen} → ${one.node === null ? "closed" : addresses.get(one.node) ?? one.node}`));
    return [
        h("details", null, h("summary", null, `${open} of ${balancer.frontends.length} open`), h("ul", {class: "plain"}, list)),
        faults.map((one) => h("p", {class: "fault"}, `does not reach the node behind ${one.listen}: ${one.error}`)),
    ];
}

const PHASES = {
    queued: ["dull", "queued"],
    copy: ["busy", "copying"],
    owned: ["busy", "moved; the giver deletes"],
    drop: ["busy", "given up; the taker deletes"],
};

function moves(status, may) {
    const all = status.moves ?? [];
    if (all.length === 0) return h("p", {class: "quiet"}, "None.");
    const heads = ["Move", "Slots", "From – to", "State", "Progress", ...(may ? ["Act"] : [])];
    const rows = all.map((one) => h("tr", {role: "row", "data-key": String(one.id)},
        h("th", {scope: "row", role: "rowheader"}, String(one.id)),
        cell("Slots", one.slots),
        cell("From – to", `shard ${one.from_index ?? one.from} → ${one.to_index ?? one.to}`),
        cell("State", phase(one)),
        cell("Progress", progress(one)),
        may && cell("Act", moveActs(one))));
    return table("moves", heads, h("tbody", {role: "rowgroup"}, rows));
}

function phase(move) {
    const [level, word] = move.paused ? ["warn", "paused"] : PHASES[move.state] ?? ["dull", move.state];
    const waits = move.waits_for === "" ? "" : `waits for ${move.waits_for}, since ${span(move.since_ms)}`;
    const slowed = move.slowed_by === undefined ? "" : `slowed by ${move.slowed_by}`;
    return [badge(level, word), [waits, slowed].filter((text) => text !== "").map((text) => h("small", null, text))];
}

function progress(move) {
    const of = move.progress;
    if (of === null || of === undefined) return move.rate_mb > 0 ? `up to ${move.rate_mb} MB/s` : "–";
    const whole = of.of_bytes === null ? "" : ` of ${bytes(of.of_bytes)}`;
    const rate = of.bytes_per_s === null ? "" : `, ${bytes(of.bytes_per_s)}/s`;
    const left = of.left_ms === null ? "" : `, ${span(of.left_ms)} left`;
    const label = `Move ${move.id}`;
    return [
        of.of_bytes > 0 && h("progress", {max: of.of_bytes, value: Math.min(of.bytes, of.of_bytes), "aria-label": label}),
        h("small", null, `${bytes(of.bytes)}${whole}${rate}${left}`),
    ];
}

function moveActs(move) {
    if (move.state !== "queued" && move.state !== "copy") return undefined;
    const data = {move: move.id};
    return [
        move.paused ? button("move-resume", data, "Go on") : button("move-pause", data, "Pause"), " ",
        button("move-cancel", data, "Cancel"),
    ];
}

const KINDS = {failover: "warn", loss: "bad", failed: "warn", alarm: "warn", over: "good"};

function eventList(events, fault, isHistory) {
    const words = "Only failovers, switchovers, losses, moves and what operators asked for";
    const choice = h("p", {class: "tools"}, h("button", {type: "button", "data-history": isHistory ? "no" : "yes", "aria-pressed": String(isHistory)}, words));
    const why = fault !== "" && h("p", {class: "fault"}, `They cannot be read: ${fault}.`);
    if (events === undefined) return [choice, why || h("p", {class: "quiet"}, "They are asked for.")];
    const rows = events.toReversed().map((one) => h("tr", {role: "row", "data-key": String(one.number)},
        cell("When", moment(one.at_ms)),
        cell("What", badge(KINDS[one.kind] ?? "dull", one.kind)),
        cell("Text", prose(one.text)),
        cell("By", one.by === undefined ? "" : `${one.by.who} (${one.by.role}), ${one.by.from}`)));
    const list = table("events", ["When", "What", "Text", "By"], h("tbody", {role: "rowgroup"}, rows));
    return [choice, why, rows.length === 0 ? h("p", {class: "quiet"}, "None.") : list];
}
