from convgate.suggestions import did_you_mean


def test_the_closest_name_is_named():
    assert did_you_mean("digit-demo", ["mine", "digits-demo"]) == "; did you mean digits-demo?"


def test_a_name_like_no_other_ends_the_sentence():
    assert did_you_mean("nothing of the kind", ["mine", "digits-demo"]) == "."
