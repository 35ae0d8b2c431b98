import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { readDocuments } from "./documents.ts";

const MODEL = `apiVersion: tessellate.dev/v1alpha1
kind: ShardedModel
metadata: {name: tiny}
spec:
  model:
    source: {path: models/tiny}
`;

describe("readDocuments", () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "tessellate-documents-"));
  });
  after(() => rmSync(directory, { recursive: true }));

  const read = (text: string) => {
    const file = join(directory, "model.yaml");
    writeFileSync(file, text);
    return readDocuments([file]);
  };

  it("fills in what the API server would", () => {
    const found = read(MODEL);
    expect(found.ok && found.value.models[0]?.spec.quantization).to.equal("int4");
    expect(found.ok && found.value.models[0]?.spec.replicas).to.equal(1);
  });

  const refusals: readonly (readonly [string, string, string, RegExp])[] = [
    [
      "an unknown field",
      MODEL.replace("spec:", "spec:\n  quantisation: int4"),
      "InvalidDocument",
      /model\.yaml:5: spec\.quantisation: unknown field; did you mean quantization\?/,
    ],
    [
      "a wrong choice",
      `${MODEL}  quantization: int3\n`,
      "InvalidDocument",
      /model\.yaml:7: spec\.quantization: is "int3"; choose one of f32, f16, int8, int4/,
    ],
    [
      "a wrong type",
      `${MODEL}  replicas: two\n`,
      "InvalidDocument",
      /model\.yaml:7: spec\.replicas: is "two"; expected a whole number/,
    ],
    [
      "no source",
      MODEL.replace("{path: models/tiny}", "{}"),
      "InvalidDocument",
      /model\.yaml:6: spec\.model\.source.*exactly one/,
    ],
    [
      "two sources",
      MODEL.replace("{path: models/tiny}", "{path: a, url: 'http://h/m'}"),
      "InvalidDocument",
      /exactly one/,
    ],
    [
      "an unknown kind",
      MODEL.replace("ShardedModel", "ShardModel"),
      "UnknownKind",
      /model\.yaml:2: kind "ShardModel" is none of ShardedModel/,
    ],
    ["no name", MODEL.replace("{name: tiny}", "{}"), "InvalidDocument", /metadata\.name/],
    ["broken YAML", `${MODEL}  replicas: [1\n`, "MalformedYaml", /model\.yaml:\d+: /],
    ["a field twice", `${MODEL}spec: {}\n`, "MalformedYaml", /unique/],
    [
      "the same model twice",
      `${MODEL}---\n${MODEL}`,
      "DuplicateName",
      /ShardedModel tiny is here twice: give one of the two another metadata\.name/,
    ],
    ["no object", "just words\n", "UnknownKind", /model\.yaml:1/],
  ];
  for (const [name, text, code, detail] of refusals) {
    it(`refuses ${name}, naming file, line and field`, () => {
      const found = read(text);
      expect(found.ok).to.equal(false);
      if (found.ok) return;
      expect(found.code).to.equal(code);
      expect(found.detail).to.match(detail);
    });
  }

  it("reads a file once that holds it all and is named for both", () => {
    const file = join(directory, "all.yaml");
    writeFileSync(file, MODEL);
    const found = readDocuments([file, file]);
    expect(found.ok && found.value.models).to.have.length(1);
  });

  it("refuses a file that is not there", () => {
    const found = readDocuments([join(directory, "nowhere.yaml")]);
    expect(found.ok ? "" : found.code).to.equal("UnreadableFile");
  });
});
