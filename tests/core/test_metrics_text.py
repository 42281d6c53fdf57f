"""One figure from an engine's metrics page, whatever stands around it."""

from app.core.metrics_text import largest_value

PAGE = """# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="a {b} c"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="x"} 0.5
vllm:kv_cache_usage_perc_total 7
plain 3
strange NaN
words many
"""


def test_the_fullest_engine_counts_and_names_are_whole() -> None:
    assert largest_value(PAGE, "vllm:kv_cache_usage_perc") == 0.5
    assert largest_value(PAGE, "plain") == 3
    assert largest_value(PAGE, "vllm:kv_cache_usage") is None
    assert largest_value(PAGE, "strange") is None
    assert largest_value(PAGE, "words") is None
    assert largest_value("", "plain") is None
