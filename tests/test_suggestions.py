from convgate.suggestions import did_you_mean, same_name


def test_the_closest_name_is_named():
    assert did_you_mean("digit-demo", ["mine", "digits-demo"]) == "; did you mean digits-demo?"


def test_a_name_like_no_other_ends_the_sentence():
    assert did_you_mean("nothing of the kind", ["mine", "digits-demo"]) == "."


def test_a_part_of_a_name_is_found_and_several_are_joined():
    known = ["imagenet-resnet50-dgnet-40", "cifar10-resnet20-dual-50", "digits-demo"]
    assert did_you_mean("resnet50", known, 3) == "; did you mean imagenet-resnet50-dgnet-40?"
    assert did_you_mean("resnet", known, 3) == "; did you mean cifar10-resnet20-dual-50 or imagenet-resnet50-dgnet-40?"


def test_spellings_of_one_name():
    known = ["DualGating", "ChannelGating", "LayerSkipping"]
    for given in ("dual", "DUALGATING", "dual-gating", "dual_gating", "DualGating"):
        assert same_name(given, known) == "DualGating"
    assert same_name("gating", known) is None
    assert same_name("one", ["One", "O_ne"]) is None
