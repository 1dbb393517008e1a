from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from trunkline.setting_values import GIB, MIB, format_value
from trunkline.settings import Settings, SettingsError, describe_settings, load_settings

untimed = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def environ(data_dir: Path, **more: str) -> dict[str, str]:
    return {"TRUNKLINE_DATA_DIR": str(data_dir), "PATH": "/bin", **more}


def refused(data_dir: Path, **more: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ(data_dir, **more))
    return caught.value.problems


def test_defaults_are_those_of_the_class(tmp_path: Path) -> None:
    assert load_settings(environ(tmp_path)) == Settings(data_dir=tmp_path)
    assert load_settings({}, {"data_dir": tmp_path}) == Settings(data_dir=tmp_path)


def test_defaults_pass_their_own_parsers(tmp_path: Path) -> None:
    variables = {info.env: info.default for info in describe_settings() if info.default}
    assert load_settings({**variables, "TRUNKLINE_DATA_DIR": str(tmp_path)}) == Settings(data_dir=tmp_path)


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "trunkline.toml"
    assert load_settings(environ(tmp_path)).port == 8080
    file.write_text("port = 1001\n")
    assert load_settings(environ(tmp_path)).port == 1001
    assert load_settings(environ(tmp_path, TRUNKLINE_PORT="1002")).port == 1002
    assert load_settings(environ(tmp_path, TRUNKLINE_PORT="1002"), {"port": 1003}).port == 1003
    assert load_settings(environ(tmp_path, TRUNKLINE_PORT="1002"), {"port": None}).port == 1002


def test_file_is_found_through_the_data_directory_flag(tmp_path: Path) -> None:
    (tmp_path / "trunkline.toml").write_text('host = "::1"')
    elsewhere = {"TRUNKLINE_DATA_DIR": "/nonexistent"}
    assert load_settings(elsewhere, {"data_dir": tmp_path}).host == "::1"


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MiB", 64 * MIB), ("64 mib", 64 * MIB), ("2GB", 2 * 10**9), ("1.5GiB", GIB * 3 // 2), ("5000000", 5_000_000)],
)
def test_sizes(tmp_path: Path, text: str, size: int) -> None:
    assert load_settings(environ(tmp_path, TRUNKLINE_LOG_MAX_BYTES=text)).log_max_bytes == size


def test_lists_and_secrets(tmp_path: Path) -> None:
    settings = load_settings(
        environ(tmp_path, TRUNKLINE_TRUSTED_PROXIES="10.0.0.0/8, ::1", TRUNKLINE_METRICS_TOKEN="hunter2")
    )
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert settings.metrics_token == "hunter2"
    assert "hunter2" not in repr(settings)
    (tmp_path / "trunkline.toml").write_text('trusted_proxies = ["192.0.2.1"]')
    assert load_settings(environ(tmp_path)).trusted_proxies == (ip_network("192.0.2.1"),)


def test_unknown_names_are_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "trunkline.toml").write_text("prot = 80\nqqqqqq = 1\n")
    problems = refused(tmp_path, TRUNKLINE_LANE_CONCURENCY="3")
    assert len(problems) == 3
    assert "TRUNKLINE_LANE_CONCURENCY" in problems[0]
    assert "did you mean TRUNKLINE_LANE_CONCURRENCY?" in problems[0]
    assert "prot: no setting is called so; did you mean port?" in problems[1]
    assert "qqqqqq" in problems[2]
    assert "did you mean" not in problems[2]


def test_variables_that_are_no_settings_are_left_alone(tmp_path: Path) -> None:
    load_settings(
        environ(
            tmp_path,
            TRUNKLINE_FAILPOINTS="a=kill",
            TRUNKLINE_PORT="tcp://10.0.0.1:80",
            TRUNKLINE_PORT_80_TCP_ADDR="10.0.0.1",
            TRUNKLINE_SERVICE_HOST="10.0.0.1",
            TRUNKLINE_SERVICE_PORT_HTTP="80",
        )
    )


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("TRUNKLINE_PORT", "http", "not a number"),
        ("TRUNKLINE_PORT", "70000", "not between 0 and 65534"),
        ("TRUNKLINE_PORT", "80.5", "not a whole number"),
        ("TRUNKLINE_PORT", "nan", "not between"),
        ("TRUNKLINE_BODY_TIMEOUT_S", "inf", "not between"),
        ("TRUNKLINE_UNKNOWN_KEY_STATUS", "404", "not one of 200, 401"),
        ("TRUNKLINE_RESERVE_BYTES", "lots", "not a size"),
        ("TRUNKLINE_RESERVE_BYTES", "9" * 5000, "not between"),
        ("TRUNKLINE_TRUSTED_PROXIES", "10.0.0.1/8", "not a network"),
        ("TRUNKLINE_HOST", " ", "not a text"),
    ],
)
def test_bad_values_say_where_and_why(tmp_path: Path, variable: str, value: str, reason: str) -> None:
    (problem,) = refused(tmp_path, **{variable: value})
    assert problem.startswith(variable)
    assert reason in problem


def test_all_problems_at_once_and_no_secret_in_them(tmp_path: Path) -> None:
    (tmp_path / "trunkline.toml").write_text("port = true\nmetrics_token = 1234567\nhost = 4\nlog_max_bytes = 1.5\n")
    problems = refused(tmp_path)
    assert len(problems) == 4
    assert "1234567" not in "\n".join(problems)


def test_the_file_may_not_hold_what_leads_to_it_or_guards_it(tmp_path: Path) -> None:
    (tmp_path / "trunkline.toml").write_text('data_dir = "x"\nmaster_key = "y"\n')
    first, second = refused(tmp_path)
    assert "data_dir" in first
    assert "TRUNKLINE_MASTER_KEY" in second


@pytest.mark.parametrize("content", [b"port = ", b"\xff\xfe", b"a = " + b"[" * 100_000])
def test_a_broken_file_is_a_problem_not_a_traceback(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "trunkline.toml").write_bytes(content)
    (problem,) = refused(tmp_path)
    assert "trunkline.toml: not valid TOML" in problem


def test_an_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "trunkline.toml").mkdir()
    (problem,) = refused(tmp_path)
    assert "can't be read" in problem


def test_an_unknown_home_directory_is_a_problem() -> None:
    with pytest.raises(SettingsError, match="home directory"):
        load_settings({"TRUNKLINE_DATA_DIR": "~nobody-of-this-name/x"})


def test_a_flag_that_is_no_setting_is_a_programming_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        load_settings({}, {"data_dir": tmp_path, "nonsense": 1})


def test_descriptions_are_complete() -> None:
    infos = describe_settings()
    assert {info.name for info in infos} == set(Settings.__dataclass_fields__)
    for info in infos:
        assert info.env == "TRUNKLINE_" + info.name.upper()
        assert info.doc.endswith("."), info.name
    by_name = {info.name: info for info in infos}
    assert by_name["log_max_bytes"].default == "20GiB"
    assert by_name["metrics_token"].secret
    assert not by_name["master_key"].in_file


@untimed
@given(st.sampled_from([info.env for info in describe_settings()]), st.text(max_size=40))
def test_any_text_is_taken_or_refused(variable: str, text: str) -> None:
    try:
        settings = load_settings({"TRUNKLINE_DATA_DIR": "/nonexistent", variable: text})
    except SettingsError:
        pass
    else:
        name = variable.removeprefix("TRUNKLINE_").lower()
        value = getattr(settings, name)
        if value not in (None, ()):
            again = load_settings({"TRUNKLINE_DATA_DIR": "/nonexistent", variable: format_value(value)})
            assert format_value(getattr(again, name)) == format_value(value)
