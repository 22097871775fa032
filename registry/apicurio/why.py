#!/usr/bin/env python3
"""Gives each disagreement that Judge.java prints its reason, and compares all of them with `disagreements.tsv`.

    judge … | python3 why.py disagreements.tsv [--write]

A disagreement that no rule here explains, or that is not in the file, is one that nobody has looked at: it is an error.
"""

import sys

# Format, what we say, what they say (its beginning), a part of the case; then why. The first rule that fits counts.
RULES = [
    ("avro", "", "error", "a type in two objects", "the parser of Java refuses {\"type\": {\"type\": …}}; ours takes the inner type, as that of Rust does"),
    ("json", "", "error: #: could not determine version", "", "without $schema its second parser knows only what it can tell the draft by"),
    ("json", "", "error: #/exclusive", "", "without $schema it reads bounds as draft 4 does, where they are true or false"),
    ("json", "", "error: #/", "", "its parser refuses 1.0 where an integer has to be, which newer drafts allow"),
    ("json", "", "error: java.net.MalformedURLException", "", "it resolves the URL of a definition against nothing"),
    ("json", "", "", "anchor", "it does not follow references to anchors"),
    ("json", "no", "yes", "a constant", "without $schema it reads draft 4, which has no constants"),
    ("json", "no", "yes", "nothing", "it takes the schema `false` for one that says nothing"),
    ("json", "yes", "no", "nothing", "it takes the schema `false` for one that says nothing"),
    ("json", "no", "yes", "pattern", "it compares properties with patternProperties only on one side, or not at all"),
    ("json", "yes", "no", "pattern", "it compares properties with patternProperties only on one side, or not at all"),
    ("json", "no", "yes", "anyOf of one becomes oneOf of more", "one part that fits is enough for it, also where the other side has more parts"),
    ("json", "yes", "no", "a format", "it compares formats; Confluent's does not, as a format is a comment unless a validator asserts it"),
    ("json", "yes", "no", "default", "it gives defaults of properties no weight; Confluent's does, and ours with it"),
    ("json", "yes", "no", "closed object loses", "it goes by the number of properties; what was never valid cannot become invalid"),
    ("json", "yes", "no", "that is not named is needed", "it asks that no name is required anew; Confluent's looks at named properties only"),
    ("json", "yes", "no", "draft 4", "it knows bounds of draft 4 as true or false only in draft 4"),
    ("json", "yes", "no", "", "it refuses each change of form, where what was valid stays valid and Confluent's allows it"),
    ("protobuf", "no", "error", "a map becomes", "its own code fails on it"),
    ("protobuf", "no", "yes", "package", "it compares messages by their names without the package"),
    ("protobuf", "no", "yes", "group", "it does not look into groups"),
    ("protobuf", "no", "yes", "oneof", "it allows one field to move into a oneof that was there, or out of one"),
    ("protobuf", "no", "yes", "required", "it asks for reserved numbers where fields are removed, and not whether they were required"),
    ("protobuf", "no", "yes", "message", "it compares the fields of messages that both have; a message that is gone or moved is no problem"),
    ("protobuf", "yes", "no", "in the same way", "it compares types by name; Confluent's lets through what is the same on the wire"),
    ("protobuf", "yes", "no", "an enum is a number", "it compares types by name; Confluent's lets through what is the same on the wire"),
    ("protobuf", "yes", "no", "names", "it keeps names of fields, for JSON; Confluent's goes by numbers"),
    ("protobuf", "yes", "no", "named with its package", "it compares names of types as they are written"),
    ("protobuf", "yes", "no", "label", "it compares labels as they are written"),
    ("protobuf", "yes", "no", "repeated", "it compares labels as they are written; readers take the last one"),
    ("protobuf", "yes", "no", "optional in so many words", "it compares labels as they are written"),
    ("protobuf", "yes", "no", "required", "it compares labels as they are written"),
    ("protobuf", "yes", "no", "renames a value", "it keeps names of values, for JSON; Confluent's goes by numbers"),
    ("protobuf", "yes", "no", "service", "it compares services, which are not in data"),
    ("protobuf", "yes", "no", "reserved", "it asks that reserved numbers stay reserved"),
    ("protobuf", "yes", "no", "enum gets", "it takes a value that the other side does not know for lost"),
    ("protobuf", "yes", "no", "added", "it asks that the numbers of removed fields are reserved, seen from the other direction too"),
    ("protobuf", "yes", "no", "removed", "it asks that the numbers of removed fields are reserved"),
    ("protobuf", "yes", "no", "new field", "it asks that the numbers of removed fields are reserved, seen from the other direction too"),
]

HEAD = "format\tdirection\twe say\tthey say\tcase\twhy\n"


def explained(line):
    form, direction, ours, theirs, case = line.rstrip("\n").split("\t")
    for rule_form, rule_ours, rule_theirs, part, why in RULES:
        if form == rule_form and ours.startswith(rule_ours) and theirs.startswith(rule_theirs) and part in case:
            # Texts of errors are theirs to change.
            said = "error" if theirs.startswith("error") else theirs
            return "\t".join([form, direction, ours, said, case, why]) + "\n"
    raise SystemExit(f"nobody has looked at this: {line}")


found = HEAD + "".join(sorted({explained(line) for line in sys.stdin}))
path = sys.argv[1]
if "--write" in sys.argv:
    open(path, "w").write(found)
elif found != open(path).read():
    raise SystemExit(f"{path} is not what Apicurio's checkers say now:\n{found}")
