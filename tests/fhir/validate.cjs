// Validate AuditEvents, one a line, with npm's fhir: node validate.cjs MODULES FILE.
// Exit codes: 0 every line is a valid AuditEvent, 1 one is not (said on stderr).
const fs = require("fs");
const path = require("path");
const { Fhir } = require(path.join(path.resolve(process.argv[2]), "fhir"));

const fhir = new Fhir();
const lines = fs.readFileSync(process.argv[3], "utf-8").trimEnd().split("\n");
lines.forEach((line, at) => {
  const result = fhir.validate(JSON.parse(line), { errorOnUnexpected: true });
  const errors = result.messages.filter((m) => ["error", "fatal"].includes(m.severity));
  if (!result.valid || errors.length > 0) {
    console.error(`line ${at + 1}: ${JSON.stringify(result.messages)}`);
    process.exit(1);
  }
});
console.log(`fhir: ${lines.length} valid`);
