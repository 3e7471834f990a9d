# What answers say to people. Codes are not here: they never change with the language.
# Numbers come as text, written as the language writes them.

range = { $feature } is outside the range seen in patients like these ({ $range }); confirm the measurement, its decimal point and its unit
range-of = { $min } to { $max }{ $unit }
missing-one = a value is missing; this model may fill in { $allowed } at most. Measure or send the missing value
missing = { $count } values are missing; this model may fill in { $allowed } at most. Measure or send the missing values
finding-decimal = { $feature } { $value }: with the other values about { $typical } would be typical; check the decimal point or the unit
finding-confirm = { $feature } { $value }: with the other values about { $typical } would be typical; confirm the measurement
finding-entry = { $feature } "{ $value }": with the other values "{ $typical }" would be typical; check the entry
years = years
months = months
weeks = weeks
days = days
yes = yes
no = no
together = these values together are unlike those of the patients the model was made for; check that all are this patient's
look-at-one = ; look at { $first } too
look-at-two = ; look at { $first } and { $second } too
disagreement = the networks of this model disagree about this patient more than they did about the patients they were calibrated on; judge without the model
no-quorum = a network of this model gave no usable output for this input; judge without the model
degraded = some networks of this model gave no usable output for this input, and the others cannot be held against them; judge without the model
unlooked = a network of this model gave no usable output for values slightly changed, so nobody knows whether this prediction hangs on the uncertainty of the measurements; judge without the model
unstable = this prediction is uncertain: within the uncertainty of the measurements it may be another; measure again what can be measured better, or judge without the model
unstable-between = within the uncertainty of the measurements this prediction may be anything from "{ $low }" to "{ $high }"; do not rely on the band alone
caller-under-review = this system has asked in a way that looks like probing of the model, so each of its requests goes to a person until the operators have looked
