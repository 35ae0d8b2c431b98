/**
 * A directed graph with whole capacities and small whole costs: how much flows from one vertex to another, and what the
 * cheapest way of sending so much costs. Arrays are kept between uses: the search asks ten thousand times a second.
 * Paths of equal length are filled together (the primal-dual method); a plain maximum flow is the same with no costs.
 */
const UNREACHED = 0x3fffffff;

export class Network {
  /** Arcs looked at since it was made: what a search measures its effort by, the same on every machine. */
  work = 0;
  #vertexCount = 0;
  #arcCount = 0;
  #first = new Int32Array(64); // vertex → its latest arc
  #next = new Int32Array(256); // arc → the one before it at the same vertex
  #head = new Int32Array(256);
  #cost = new Int32Array(256);
  #room = new Float64Array(256);
  #distance = new Int32Array(64);
  #queued = new Uint8Array(64);
  #turn = new Int32Array(64);
  #queue = new Int32Array(64);

  /** Empties it: vertices are 0 to vertexCount − 1. */
  reset(vertexCount: number): void {
    if (vertexCount > this.#first.length) {
      const size = vertexCount * 2;
      this.#first = new Int32Array(size);
      this.#distance = new Int32Array(size);
      this.#queued = new Uint8Array(size);
      this.#turn = new Int32Array(size);
      this.#queue = new Int32Array(size);
    }
    this.#vertexCount = vertexCount;
    this.#first.fill(-1, 0, vertexCount);
    this.#arcCount = 0;
  }

  /** The arc's number, even; the odd one after it leads back. */
  connect(tail: number, head: number, capacity: number, cost = 0): number {
    const arc = this.#arcCount;
    this.work += 2;
    if (arc + 2 > this.#head.length) this.#grow();
    this.#arcCount = arc + 2;
    this.#put(arc, tail, head, capacity, cost);
    this.#put(arc + 1, head, tail, 0, -cost);
    return arc;
  }

  #put(arc: number, tail: number, head: number, capacity: number, cost: number): void {
    this.#head[arc] = head;
    this.#room[arc] = capacity;
    this.#cost[arc] = cost;
    this.#next[arc] = this.#first[tail] ?? -1;
    this.#first[tail] = arc;
  }

  #grow(): void {
    const grown = <List extends Int32Array | Float64Array>(list: List, bigger: List): List => {
      bigger.set(list);
      return bigger;
    };
    const size = this.#head.length * 2;
    this.#next = grown(this.#next, new Int32Array(size));
    this.#head = grown(this.#head, new Int32Array(size));
    this.#cost = grown(this.#cost, new Int32Array(size));
    this.#room = grown(this.#room, new Float64Array(size));
  }

  /** What flows through an arc now. */
  flow(arc: number): number {
    return this.#room[arc + 1] ?? 0;
  }

  /**
   * Sends up to `wanted` at the lowest cost; more than once adds to what flows already. Stops where it is certain that
   * the cost will be above `enough`: each path costs at least what the one before it did.
   */
  send(
    source: number,
    sink: number,
    wanted: number,
    enough = Number.POSITIVE_INFINITY,
  ): { readonly sent: number; readonly cost: number } {
    let sent = 0;
    let cost = 0;
    while (sent < wanted && this.#measure(source, sink)) {
      const least = cost + (wanted - sent) * (this.#distance[sink] ?? 0);
      if (least > enough) return { sent, cost: least };
      this.#turn.set(this.#first.subarray(0, this.#vertexCount));
      this.#queued.fill(0, 0, this.#vertexCount);
      const pushed = this.#push(source, sink, wanted - sent);
      if (pushed === 0) break;
      sent += pushed;
      cost += pushed * (this.#distance[sink] ?? 0);
    }
    return { sent, cost };
  }

  /** Vertices that more could still reach: the source's side of a minimum cut, after `send` found no way on. */
  reached(source: number): ReadonlySet<number> {
    const seen = new Set([source]);
    const open = [source];
    for (let vertex = open.pop(); vertex !== undefined; vertex = open.pop())
      for (let arc = this.#first[vertex] ?? -1; arc >= 0; arc = this.#next[arc] ?? -1) {
        const head = this.#head[arc] ?? 0;
        if ((this.#room[arc] ?? 0) <= 0 || seen.has(head)) continue;
        seen.add(head);
        open.push(head);
      }
    return seen;
  }

  /** Costs from the source (Bellman and Ford's, with a queue); false where the sink cannot be reached. */
  #measure(source: number, sink: number): boolean {
    const [distance, queued, queue, count] = [this.#distance, this.#queued, this.#queue, this.#vertexCount];
    const [head, room, cost, next, first] = [this.#head, this.#room, this.#cost, this.#next, this.#first];
    distance.fill(UNREACHED, 0, count);
    queued.fill(0, 0, count);
    distance[source] = 0;
    queue[0] = source;
    let [from, waiting] = [0, 1];
    let looked = 0;
    while (waiting > 0) {
      const vertex = queue[from] ?? 0;
      from = from + 1 === count ? 0 : from + 1;
      waiting -= 1;
      queued[vertex] = 0;
      const here = distance[vertex] ?? 0;
      for (let arc = first[vertex] ?? -1; arc >= 0; arc = next[arc] ?? -1) {
        looked += 1;
        if ((room[arc] ?? 0) <= 0) continue;
        const there = head[arc] ?? 0;
        const reached = here + (cost[arc] ?? 0);
        if (reached >= (distance[there] ?? 0)) continue;
        distance[there] = reached;
        if (queued[there] === 1) continue;
        queued[there] = 1;
        const at = from + waiting;
        queue[at >= count ? at - count : at] = there;
        waiting += 1;
      }
    }
    this.work += looked;
    return (distance[sink] ?? UNREACHED) < UNREACHED;
  }

  /** Fills shortest paths, depth first; a vertex on the path now is not entered again (arcs of no cost make circles). */
  #push(vertex: number, sink: number, wanted: number): number {
    if (vertex === sink) return wanted;
    this.#queued[vertex] = 1;
    const here = this.#distance[vertex] ?? 0;
    let pushed = 0;
    for (let arc = this.#turn[vertex] ?? -1; arc >= 0; arc = this.#next[arc] ?? -1) {
      this.#turn[vertex] = arc;
      this.work += 1;
      const there = this.#head[arc] ?? 0;
      const room = this.#room[arc] ?? 0;
      if (room <= 0 || this.#queued[there] === 1) continue;
      if ((this.#distance[there] ?? 0) !== here + (this.#cost[arc] ?? 0)) continue;
      const more = this.#push(there, sink, Math.min(room, wanted - pushed));
      if (more === 0) continue;
      this.#room[arc] = room - more;
      this.#room[arc ^ 1] = (this.#room[arc ^ 1] ?? 0) + more;
      pushed += more;
      if (pushed === wanted) {
        this.#queued[vertex] = 0;
        return pushed;
      }
    }
    // Nothing more leaves here in this round, so nobody need try again: left marked.
    return pushed;
  }
}
