import { expect } from "chai";
import { FACTS, aModel, aNode } from "./builders.ts";
import { type RankHost, rankConfigOf } from "./told.ts";
import type { Assignment } from "./types.ts";

const anAssignment = (chain: number, segment: number, rank: number, start: number, end: number): Assignment => ({
  chain,
  segment,
  rank,
  layers: { start, end },
  sliceWeights: [1, 1],
  node: "a",
  provider: "a-owner",
  weightBytes: 1,
  kvBytes: 1,
});

const HOST: RankHost = {
  listen: { host: "127.0.0.1", port: 0, metricsPort: 0 },
  tls: { caFile: "ca", certificateFile: "crt", keyFile: "key" },
  cacheDirectory: "/cache",
  signer: "unix:/s",
};

describe("what a rank is told", () => {
  const own = anAssignment(0, 1, 0, 4, 8);
  const all = [
    anAssignment(0, 0, 0, 0, 4), // of its own chain
    own,
    anAssignment(1, 0, 0, 0, 4), // of another chain, other layers
    anAssignment(1, 1, 1, 3, 6),
    anAssignment(1, 1, 0, 3, 6),
    anAssignment(2, 0, 0, 0, 8),
  ];
  const told = (host: RankHost) =>
    rankConfigOf(aModel(), FACTS, own, { assignments: all }, aNode("a", { cacheBytes: 7 }), host);

  it("are the ranks of other chains that hold some of its layers, and where they will listen", () => {
    const { fellows, cacheBytes } = told({ ...HOST, addressOf: (rank) => `${rank}.svc:7` });
    expect(fellows).to.deep.equal([
      { name: "default/tiny-1-1-0", address: "tiny-1-1-0.svc:7" },
      { name: "default/tiny-1-1-1", address: "tiny-1-1-1.svc:7" },
      { name: "default/tiny-2-0-0", address: "tiny-2-0-0.svc:7" },
    ]);
    expect(cacheBytes).to.equal(7);
  });

  it("is nothing of fellows where there is no way to them", () => {
    expect(told(HOST)).to.not.have.property("fellows");
    expect(told({ ...HOST, addressOf: () => "a:1" })).to.not.have.property("addressOf");
  });

  it("are the model's mirrors", () => {
    const mirrors = [{ url: "https://mirror.test/m" }];
    expect(rankConfigOf(aModel({ mirrors }), FACTS, own, { assignments: all }, aNode("a"), HOST).model).to.include({
      mirrors,
    });
  });
});
