// The part that the Node drivers share: commands come as JSON lines on stdin, one answer a line goes to stdout.
// Whatever else appears on stdout or stderr is the SDK's own output.
"use strict";

const readline = require("node:readline");

/** Runs `perform(call)` for each call and `close()` at the end; both may be async. */
module.exports = function drive({ perform, close }) {
  const answer = (value) => process.stdout.write("@@" + JSON.stringify(value) + "\n");
  let last = Promise.resolve();
  readline.createInterface({ input: process.stdin }).on("line", (line) => {
    const command = JSON.parse(line);
    last = last.then(async () => {
      if (command.do === "close") {
        await close();
        answer({ closed: true });
        process.exit(0);
      }
      await perform(command.call);
      answer({ called: command.call.type });
    });
  });
  answer({ ready: true });
};

module.exports.options = JSON.parse(process.argv[2]);
