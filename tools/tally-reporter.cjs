// Mocha's spec reporter, which also writes {passed, failed, pending, untried} as JSON into the file that TALLY_FILE names.
// Untried are tests that mocha dropped without a word, as behind a hook that failed.
const { writeFileSync } = require("node:fs");
const Mocha = require("mocha");

module.exports = class TallyReporter extends Mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    let ended = 0;
    runner.on("test end", () => {
      ended += 1;
    });
    runner.once("end", () => {
      const { passes: passed = 0, failures: failed = 0, pending = 0 } = runner.stats ?? {};
      if (process.env.TALLY_FILE !== undefined) {
        const untried = runner.total - ended;
        writeFileSync(process.env.TALLY_FILE, JSON.stringify({ passed, failed, pending, untried }));
      }
    });
  }
};
