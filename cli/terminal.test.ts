import { expect } from "chai";
import { showsColour, showsUnicode, widthOf } from "./terminal.ts";

describe("the terminal", () => {
  const terminal = { isTTY: true, columns: 132 };
  const widths: readonly (readonly [string, Parameters<typeof widthOf>, number])[] = [
    ["its own", [terminal, {}], 132],
    ["a pipe's", [{}, {}], 100],
    ["what COLUMNS says of a pipe", [{}, { COLUMNS: "72" }], 72],
    ["as asked", [terminal, {}, 90], 90],
    ["never under 60", [{ isTTY: true, columns: 20 }, {}], 60],
    ["never over 200", [{ isTTY: true, columns: 400 }, {}], 200],
  ];
  for (const [name, args, wanted] of widths)
    it(`is as wide as ${name}`, () => expect(widthOf(...args)).to.equal(wanted));

  const colours: readonly (readonly [string, Parameters<typeof showsColour>, boolean])[] = [
    ["a terminal", [terminal, {}], true],
    ["a pipe", [{}, {}], false],
    ["NO_COLOR", [terminal, { NO_COLOR: "1" }], false],
    ["an empty NO_COLOR", [terminal, { NO_COLOR: "" }], true],
    ["FORCE_COLOR on a pipe", [{}, { FORCE_COLOR: "1" }], true],
    ["NO_COLOR and FORCE_COLOR", [terminal, { NO_COLOR: "1", FORCE_COLOR: "1" }], false],
    ["a dumb terminal", [terminal, { TERM: "dumb" }], false],
  ];
  for (const [name, args, wanted] of colours)
    it(`${wanted ? "has" : "has no"} colours: ${name}`, () => expect(showsColour(...args)).to.equal(wanted));

  it("has only ASCII where its locale says so", () => {
    expect(["en_GB.UTF-8", "C.utf8", "C", ""].map((LANG) => showsUnicode({ LANG }))).to.deep.equal([
      true,
      true,
      true,
      true,
    ]);
    expect(showsUnicode({ LC_ALL: "en_GB.ISO-8859-1", LANG: "en_GB.UTF-8" })).to.equal(false);
  });
});
