import { expect } from "chai";
import fc from "fast-check";
import { type ChainLoad, chooseChain, freed, newLoad, taken } from "./choose.ts";
import { type Line, type Ticket, joined, left, overfull } from "./line.ts";
import { type ChainFacts, type ModelFacts, type Picture, chainKey, chainsFor, findModel } from "./picture.ts";

const aLoad = (key: string, fields: Partial<ChainLoad> = {}): ChainLoad => ({ ...newLoad(key), ...fields });

describe("choosing a chain", () => {
  const NOW = 1000;
  const cases: readonly { readonly name: string; readonly ready: readonly ChainLoad[]; readonly want: string }[] = [
    { name: "nothing ready, nothing to wait for", ready: [], want: "wait undefined" },
    { name: "the first of equals", ready: [aLoad("a"), aLoad("b")], want: "take a" },
    {
      name: "the one with fewer sessions",
      ready: [aLoad("a", { sessionCount: 2 }), aLoad("b", { sessionCount: 1 })],
      want: "take b",
    },
    {
      name: "of equally loaded ones the one that failed less",
      ready: [aLoad("a", { failureCount: 1 }), aLoad("b")],
      want: "take b",
    },
    {
      name: "not one that cools, even if idle",
      ready: [aLoad("a", { coolUntilMs: 1001 }), aLoad("b", { sessionCount: 9 })],
      want: "take b",
    },
    {
      name: "one that has cooled",
      ready: [aLoad("a", { coolUntilMs: 1000 }), aLoad("b", { sessionCount: 9 })],
      want: "take a",
    },
    {
      name: "not a full one",
      ready: [aLoad("a", { fullUntilMs: 1100 }), aLoad("b", { sessionCount: 9 })],
      want: "take b",
    },
    {
      name: "waits for whichever is free first",
      ready: [aLoad("a", { fullUntilMs: 1100, coolUntilMs: 1900 }), aLoad("b", { fullUntilMs: 1200 })],
      want: "wait 1200",
    },
  ];
  for (const { name, ready, want } of cases) {
    it(name, () => {
      const choice = chooseChain(ready, NOW);
      expect(choice.do === "take" ? `take ${choice.key}` : `wait ${choice.untilMs}`).to.equal(want);
    });
  }

  it("leaves a failing chain alone for longer and longer, and forgives on success", () => {
    let load = newLoad("a");
    const pauses: number[] = [];
    for (let turn = 0; turn < 9; turn += 1) {
      load = freed(taken(load), "lost", NOW);
      pauses.push(load.coolUntilMs - NOW);
    }
    expect(pauses).to.deep.equal([500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
    expect(freed(taken(load), "served", NOW)).to.deep.equal(newLoad("a"));
  });

  it("spreads sessions evenly whatever the order of comings and goings", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(5), { maxLength: 60 }), (ends) => {
        let loads: readonly ChainLoad[] = ["a", "b", "c"].map(newLoad);
        const replace = (load: ChainLoad): void =>
          void (loads = loads.map((other) => (other.key === load.key ? load : other)));
        for (const end of ends) {
          const busy = loads[end];
          if (busy !== undefined && busy.sessionCount > 0) replace(freed(busy, "served", NOW));
          const choice = chooseChain(loads, NOW);
          const before = Math.min(...loads.map((load) => load.sessionCount));
          const chosen = loads.find((load) => choice.do === "take" && load.key === choice.key);
          expect(chosen?.sessionCount).to.equal(before);
          if (chosen !== undefined) replace(taken(chosen));
        }
      }),
    );
  });
});

describe("the line", () => {
  it("serves in order of arrival, resumed answers first, and everyone in the end", () => {
    const tickets = fc.uniqueArray(fc.record({ number: fc.nat(1000), resumed: fc.boolean() }), {
      selector: (ticket) => ticket.number,
    });
    fc.assert(
      fc.property(tickets, (arrived: readonly Ticket[]) => {
        let line: Line = arrived.reduce<Line>(joined, []);
        expect(line).to.have.length(arrived.length);
        let previous: Ticket | undefined;
        for (const [head] = line; line.length > 0; line = left(line, line[0] ?? { number: -1, resumed: false })) {
          const now = line[0] ?? head;
          if (previous !== undefined && previous.resumed === now?.resumed)
            expect(now.number).to.be.greaterThan(previous.number);
          if (previous !== undefined && !previous.resumed) expect(now?.resumed).to.equal(false);
          previous = now;
        }
      }),
    );
  });

  it("is overfull by new requests only", () => {
    const line = [
      { number: 1, resumed: true },
      { number: 2, resumed: false },
      { number: 3, resumed: false },
    ].reduce<Line>(joined, []);
    expect(overfull(line, 2)).to.equal(false);
    expect(overfull(line, 1)).to.equal(true);
  });
});

describe("finding a model", () => {
  const aModel = (namespace: string, name: string): ModelFacts => ({
    namespace,
    name,
    root: "sha256:00",
    layerCount: 1,
    contextLength: 16,
    pricePerMillionTokens: 0n,
    epochSeconds: 3600,
    handOffDtype: "f32",
    maxQueue: 1,
    slotCount: 4,
    asleep: false,
    wakeTimeoutMs: 0,
    chains: [],
  });
  const picture: Picture = {
    fence: 1,
    models: [aModel("a", "one"), aModel("a", "two"), aModel("b", "two")],
    providers: [],
    ledgerAddress: "",
  };
  for (const [asked, want] of [
    ["one", "a/one"],
    ["a/one", "a/one"],
    ["b/two", "b/two"],
    ["two", "AmbiguousModel"],
    ["b/one", "ModelNotFound"],
    ["", "ModelNotFound"],
  ] as const) {
    it(`${JSON.stringify(asked)} → ${want}`, () => {
      const found = findModel(picture, asked);
      expect(found.ok ? `${found.value.namespace}/${found.value.name}` : found.code).to.equal(want);
    });
  }

  it("takes a chain with another address or other weights for another chain", () => {
    const model = aModel("a", "one");
    const chain = (address: string) => ({
      index: 0,
      ready: true,
      ranks: [],
      segments: [{ layers: { start: 0, end: 1 }, ranks: [{ name: "a/one-0-0-0", address, provider: "p", node: "n" }] }],
    });
    expect(chainKey(model, chain("x:1"))).to.equal(chainKey(model, { ...chain("x:1"), ready: false }));
    expect(chainKey(model, chain("x:1"))).to.not.equal(chainKey(model, chain("x:2")));
    expect(chainKey(model, chain("x:1"))).to.not.equal(chainKey({ ...model, root: "sha256:01" }, chain("x:1")));
  });
});

describe("chains of two revisions of a model", () => {
  type Marks = Pick<ChainFacts, "draining" | "unproven"> & { readonly ready?: false; readonly contextLength?: number };
  const [A, B] = ["a", "b"];
  /** `a0 b1`: chain 0 of revision a, chain 1 of revision b. Revisions in capitals are of another checkpoint. */
  const aModel = (chains: string, marks: Readonly<Record<string, Marks>>): ModelFacts => ({
    namespace: "default",
    name: "tiny",
    root: "root-a",
    layerCount: 4,
    contextLength: 100,
    pricePerMillionTokens: 0n,
    epochSeconds: 60,
    handOffDtype: "f32",
    maxQueue: 1,
    slotCount: 4,
    asleep: false,
    wakeTimeoutMs: 0,
    chains: chains.split(" ").map((text, index): ChainFacts => {
      const { ready = true, contextLength = 100, ...flags } = marks[text] ?? {};
      const revision = text.slice(0, 1);
      const root = revision === revision.toLowerCase() ? "root-a" : `root-${revision.toLowerCase()}`;
      const form = { revision, root, layerCount: 4, contextLength, handOffDtype: "f32" } as const;
      return { index, ready, ...flags, form, segments: [], ranks: [] };
    }),
  });
  const drains = { draining: true } as const;
  const cases: readonly {
    readonly name: string;
    readonly chains: string;
    readonly marks?: Readonly<Record<string, Marks>>;
    readonly begun?: string;
    readonly root?: string;
    readonly positionCount?: number;
    readonly want: readonly number[];
  }[] = [
    { name: "a new session takes any that fits", chains: "a0 b1", want: [0, 1] },
    { name: "a new session takes none that drains", chains: "a0 b1", marks: { a0: drains }, want: [1] },
    {
      name: "nobody takes one that no probe went through",
      chains: "a0 b1",
      marks: { b1: { unproven: true } },
      want: [0],
    },
    { name: "where all drain, a new session waits", chains: "a0 a1", marks: { a0: drains, a1: drains }, want: [] },
    { name: "one that has begun stays with its weights", chains: "a0 b1", begun: A, want: [0] },
    { name: "even where they drain", chains: "a0 b1", marks: { a0: drains }, begun: A, want: [0] },
    { name: "and rather where they do not", chains: "a0 a1 b2", marks: { a0: drains }, begun: A, want: [1] },
    {
      name: "and goes to others where none is left",
      chains: "a0 b1",
      marks: { a0: { ready: false } },
      begun: A,
      want: [1],
    },
    { name: "but not to another checkpoint", chains: "a0 B1", marks: { a0: { ready: false } }, begun: A, want: [] },
    { name: "a prompt goes to the checkpoint that it was made for", chains: "a0 B1", root: "root-b", want: [1] },
    { name: "even if that drains by now", chains: "a0 B1", marks: { a0: drains }, want: [0] },
    {
      name: "a session goes where it has room",
      chains: "a0 b1",
      marks: { b1: { contextLength: 10 } },
      positionCount: 50,
      want: [0],
    },
    { name: "one that has begun on what is gone takes what there is", chains: "b0 b1", begun: A, want: [0, 1] },
    { name: "one that has begun finds its own revision", chains: "a0 b1", begun: B, want: [1] },
  ];
  for (const { name, chains, marks = {}, begun, root = "root-a", positionCount = 5, want } of cases) {
    it(name, () => {
      const fit = { root, positionCount, ...(begun === undefined ? {} : { begun: { revision: begun } }) };
      expect(chainsFor(aModel(chains, marks), fit).map(({ index }) => index)).to.deep.equal(want);
    });
  }
});
