import { expect } from "chai";
import fc from "fast-check";
import { sha256 } from "./digest.ts";
import { inclusionProof, merkleLeaf, merkleRoot, provesInclusion } from "./merkle.ts";

const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));

/** The leaves and roots that certificate-transparency implementations share as test vectors. */
const VECTOR = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS = [
  "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
  "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
  "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
  "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
  "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
  "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/** RFC 6962's definition word for word, slow and obvious. */
function rootByDefinition(leaves: readonly Uint8Array[]): Uint8Array {
  const [first] = leaves;
  if (first === undefined) return sha256(new Uint8Array(0));
  if (leaves.length === 1) return first;
  let split = 1;
  while (split * 2 < leaves.length) split *= 2;
  return sha256(Uint8Array.of(1), rootByDefinition(leaves.slice(0, split)), rootByDefinition(leaves.slice(split)));
}

const someLeaves = fc
  .integer({ min: 1, max: 70 })
  .map((count) => Array.from({ length: count }, (_, index) => merkleLeaf(Uint8Array.of(index))));
const leavesAndIndex = someLeaves.chain((leaves) =>
  fc.record({ leaves: fc.constant(leaves), index: fc.integer({ min: 0, max: leaves.length - 1 }) }),
);

describe("merkle trees", () => {
  it("have the roots of the shared vectors", () => {
    const leaves = VECTOR.map((hex) => merkleLeaf(bytesOf(hex)));
    ROOTS.forEach((root, index) => {
      expect(toHex(merkleRoot(leaves.slice(0, index + 1)))).to.equal(root);
    });
    expect(toHex(merkleRoot([]))).to.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  });

  it("are those of the definition, for any count", () => {
    fc.assert(
      fc.property(someLeaves, (leaves) => {
        expect(toHex(merkleRoot(leaves))).to.equal(toHex(rootByDefinition(leaves)));
      }),
    );
  });

  it("prove every leaf at its own place", () => {
    fc.assert(
      fc.property(leavesAndIndex, ({ leaves, index }) => {
        const root = merkleRoot(leaves);
        const leaf = leaves[index] ?? root;
        const proof = inclusionProof(leaves, index);
        expect(provesInclusion({ leaf, index, leafCount: leaves.length, proof, root })).to.equal(true);
      }),
    );
  });

  it("prove nothing else: another leaf, place, root, or a changed proof", () => {
    fc.assert(
      fc.property(leavesAndIndex, fc.nat(), fc.nat(255), ({ leaves, index }, where, flip) => {
        const root = merkleRoot(leaves);
        const leaf = leaves[index] ?? root;
        const leafCount = leaves.length;
        const proof = inclusionProof(leaves, index);
        const holds = (change: object) => provesInclusion({ leaf, index, leafCount, proof, root, ...change });
        const other = sha256(leaf);
        expect(holds({ leaf: other })).to.equal(false);
        expect(holds({ root: other })).to.equal(false);
        expect(holds({ proof: [...proof, other] })).to.equal(false);
        expect(holds({ leafCount: index })).to.equal(false);
        expect(holds({ index: -1 })).to.equal(false);
        expect(holds({ index: 0.5 })).to.equal(false);
        if (proof.length === 0) return;
        expect(holds({ proof: proof.slice(1) })).to.equal(false);
        const changed = proof.map((hash, at) =>
          at === where % proof.length ? hash.map((byte, i) => (i === where % 32 ? byte ^ (flip || 1) : byte)) : hash,
        );
        expect(holds({ proof: changed })).to.equal(false);
        for (let place = 0; place < leafCount; place += 1)
          if (place !== index) expect(holds({ index: place }), `at ${place}`).to.equal(false);
      }),
    );
  });
});
