import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.core.errors import ConfigError
from pipeline.core.settings import RENAMED, Settings, renamed_in_use
from pipeline.core.settings_table import markdown_table


def test_defaults_need_no_environment() -> None:
    settings = Settings.from_env({})
    assert (settings.resize_box, settings.thumb_box) == ((1024, 768), (192, 192))
    assert settings.output_bucket is None


def test_values_are_parsed_by_their_type() -> None:
    settings = Settings.from_env(
        {"RESIZE_BOX": " 800X600 ", "SUFFIXES": "JPG, .Png,,", "POLL_WAIT_S": "3", "OUTPUT_BUCKET": "out"}
    )
    assert settings.resize_box == (800, 600)
    assert settings.suffixes == (".jpg", ".png")
    assert settings.poll_wait_s == 3
    assert settings.required("output_bucket") == "out"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.from_env({"POLL_WAIT_S": "", "OUTPUT_BUCKET": ""}) == Settings.from_env({})


def test_other_variables_are_nobody_s_business() -> None:
    assert Settings.from_env({"PATH": "/bin", "resize_box": "1x1"}) == Settings.from_env({})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.from_env({}).poll_wait_s = 1


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"POLL_WAIT_S": "21"}, r"POLL_WAIT_S='21': must be less than or equal to 20"),
        ({"POLL_WAIT_S": "soon"}, r"POLL_WAIT_S='soon': must be a whole number"),
        ({"RESIZE_BOX": "big"}, r"RESIZE_BOX='big': write it as WIDTHxHEIGHT"),
        ({"RESIZE_BOX": "0x10"}, r"RESIZE_BOX.*greater than or equal to 1"),
        ({"QUEUE_PREFIX": "a b"}, r"QUEUE_PREFIX='a b'"),
        ({"SUFFIXES": " , "}, r"SUFFIXES=.*at least 1"),
        ({"SOFT_TIME_LIMIT_S": "200"}, r"HARD_TIME_LIMIT_S=150 must be above SOFT_TIME_LIMIT_S=200"),
        ({"MAX_CPU_S": "120"}, r"MAX_CPU_S=120 must be below SOFT_TIME_LIMIT_S=120"),
        ({"THUMB_BOX": "2000x100"}, r"THUMB_BOX=2000x100 must fit in RESIZE_BOX=1024x768"),
    ],
)
def test_an_error_names_the_variable_the_value_and_the_bound(environ: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Settings.from_env(environ)


def test_all_errors_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({"POLL_WAIT_S": "21", "RESIZE_BOX": "big"})
    assert len(str(caught.value).splitlines()) == 2


def test_what_a_command_can_t_do_without_is_said_by_name() -> None:
    with pytest.raises(ConfigError, match="OUTPUT_BUCKET is not set"):
        Settings.from_env({}).required("output_bucket")


def test_several_input_buckets_are_all_this_pipeline_s_and_no_others() -> None:
    several = Settings.from_env({"INPUT_BUCKET": "a, b", "OUTPUT_BUCKET": "out"})
    assert several.input_buckets == ("a", "b")
    assert [several.foreign_reason(bucket) is None for bucket in ("a", "b", "out", "c")] == [True, True, False, False]
    with pytest.raises(ConfigError, match="names several buckets"):
        several.one_input_bucket()
    unset = Settings.from_env({"OUTPUT_BUCKET": "out"})
    assert [unset.foreign_reason(bucket) is None for bucket in ("a", "out")] == [True, False]
    with pytest.raises(ConfigError, match="INPUT_BUCKET is not set"):
        unset.one_input_bucket()
    with pytest.raises(ConfigError, match="INPUT_BUCKET='a,'"):
        Settings.from_env({"INPUT_BUCKET": "a,"})


def test_every_setting_has_help_and_a_default_that_is_valid_as_text() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
    shown = {}
    for line in markdown_table().splitlines()[2:]:
        variable, default, *_ = (cell.strip(" `") for cell in line.strip("|").split("|"))
        if default:
            shown[variable] = default
    assert Settings.from_env(shown) == Settings.from_env({})


def test_a_variable_under_its_old_name_counts_and_is_told() -> None:
    environ = {"RESERVE_S": "7", "STOP_BUDGET_S": "20", "SHUTDOWN_TIMEOUT_S": "30"}
    settings = Settings.from_env(environ)
    assert (settings.prefetch_s, settings.shutdown_timeout_s) == (7, 30)
    told = renamed_in_use(environ)
    assert [sentence.partition(" is called ")[0] for sentence in told] == ["RESERVE_S", "STOP_BUDGET_S"]
    assert "PREFETCH_S now" in told[0]
    assert "is set too" in told[1]
    assert renamed_in_use({"PREFETCH_S": "7", "RESERVE_S": ""}) == []


def test_every_new_name_is_a_setting_and_no_old_one_is() -> None:
    known = {name.upper() for name in Settings.model_fields}
    assert set(RENAMED.values()) <= known
    assert not set(RENAMED) & known


def test_a_verb_tells_of_old_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESERVE_S", "7")
    assert "RESERVE_S is called PREFETCH_S now" in CliRunner().invoke(cli, ["settings"]).stderr
