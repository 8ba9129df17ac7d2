namespace convgate::testing { class Random; void test_malformed(Random&) {} void test_limits(Random&) {} }
