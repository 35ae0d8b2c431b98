// Mocha's spec reporter, which also writes {passed, failed, pending} as JSON into the file that TALLY_FILE names.
const { writeFileSync } = require("node:fs");
const Mocha = require("mocha");

module.exports = class TallyReporter extends Mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    runner.once("end", () => {
      const { passes: passed = 0, failures: failed = 0, pending = 0 } = runner.stats ?? {};
      if (process.env.TALLY_FILE !== undefined) writeFileSync(process.env.TALLY_FILE, JSON.stringify({ passed, failed, pending }));
    });
  }
};
