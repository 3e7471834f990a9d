"""Validate AuditEvents, one a line, with PyPI's fhir.resources: validate.py FILE.

Exit codes: 0 every line is a valid AuditEvent, 1 one is not (said on stderr).
"""

import sys

from fhir.resources.R4B.auditevent import AuditEvent

count = 0
with open(sys.argv[1], encoding="utf-8") as lines:
    for number, line in enumerate(lines, 1):
        try:
            event = AuditEvent.model_validate_json(line)
        except ValueError as error:
            print(f"line {number}: {error}", file=sys.stderr)
            sys.exit(1)
        assert event.get_resource_type() == "AuditEvent"
        count += 1
print(f"fhir.resources: {count} valid")
