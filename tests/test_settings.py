"""Settings: which source wins, what is refused and how it is said, and that secrets stay secret."""

from pathlib import Path

import pytest

from rosfit.settings import Settings, SettingsError, default_data_dir, load_settings, mask_url


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"ROSFIT_{name.upper()}", raising=False)
    monkeypatch.delenv("ROSFIT_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


def test_flag_beats_environment_beats_file_beats_default(tmp_path, monkeypatch):
    """Each value comes from the strongest source that gives it, and says so."""
    (tmp_path / "rosfit.toml").write_text('port = 1\nmqtt_port = 2\nmqtt_ws_port = 3\nhost = "0.0.0.0"\n')
    monkeypatch.setenv("ROSFIT_PORT", "11")
    monkeypatch.setenv("ROSFIT_MQTT_PORT", "12")
    settings = load_settings({"port": 21, "mqtt_port": None})
    assert (settings.port, settings.mqtt_port, settings.mqtt_ws_port, settings.mqtt_tls_port) == (
        21,
        12,
        3,
        8883,
    )
    assert settings.origin("port") == "flag --port"
    assert settings.origin("mqtt_port") == "environment ROSFIT_MQTT_PORT"
    assert settings.origin("host") == str(tmp_path / "rosfit.toml")
    assert settings.origin("mqtt_tls_port") == "default"


def test_defaults_of_the_contract():
    settings = load_settings()
    assert (settings.host, settings.port, settings.mqtt_port) == ("127.0.0.1", 8000, 1883)
    assert (settings.mqtt_ws_port, settings.mqtt_tls_port, settings.mqtt_wss_port) == (8083, 8883, 8084)
    assert (settings.payload_limit_bytes, settings.blob_limit_bytes) == (262144, 8388608)
    assert settings.data_dir == default_data_dir()


def test_named_file_beats_the_folder_and_must_exist(tmp_path, monkeypatch):
    (tmp_path / "rosfit.toml").write_text("port = 1")
    other = tmp_path / "other.toml"
    other.write_text("port = 2\ndata_dir = 'data'")
    assert load_settings(config=other).port == 2
    monkeypatch.setenv("ROSFIT_CONFIG", str(other))
    assert load_settings().data_dir == tmp_path / "data"
    with pytest.raises(SettingsError, match=r"none\.toml does not exist"):
        load_settings(config=tmp_path / "none.toml")


def test_unknown_key_is_refused_with_a_hint(tmp_path):
    (tmp_path / "rosfit.toml").write_text('databse_url = "x"')
    with pytest.raises(
        SettingsError, match=r"databse_url \(.*rosfit\.toml\) is not a setting: did you mean database_url"
    ):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PORT", "abc", "a port number from 0 to 65535"),
        ("MQTT_PORT", "70000", "a port number from 0 to 65535"),
        ("DATABASE_URL", "mysql://u:hunter2@h/d", "postgresql://"),
        ("DATABASE_URL", "postgresql:hunter2", "postgresql://"),
        ("S3_URL", "s3://", "s3://bucket"),
        ("MQTT_URL", "http://h:1883", "mqtt://"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, nonsense", "addresses or networks"),
        ("LOG_LEVEL", "loud", "debug, info"),
        ("HEARTBEAT_TIMEOUT_S", "0", "seconds above 0"),
        ("LAYOUTS", "{", "name of its own"),
    ],
)
def test_bad_value_names_setting_source_and_expectation(monkeypatch, name, value, expected):
    monkeypatch.setenv(f"ROSFIT_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert f"{name.lower()} (environment ROSFIT_{name})" in caught.value.detail
    assert expected in caught.value.detail
    assert "hunter2" not in caught.value.detail


def test_every_bad_value_is_named_at_once(monkeypatch):
    monkeypatch.setenv("ROSFIT_PORT", "x")
    monkeypatch.setenv("ROSFIT_MQTT_PORT", "y")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert len(caught.value.detail.splitlines()) == 2


def test_empty_variable_is_no_value(monkeypatch):
    monkeypatch.setenv("ROSFIT_DATABASE_URL", "")
    assert load_settings().database_url is None


def test_lists_from_environment_and_file(tmp_path, monkeypatch):
    (tmp_path / "rosfit.toml").write_text('[[layouts]]\nname = "fleet"\npatterns = {a = "b"}\n')
    monkeypatch.setenv("ROSFIT_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    settings = load_settings()
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1")
    assert settings.layouts == ({"name": "fleet", "patterns": {"a": "b"}},)


def test_broken_file_is_named(tmp_path):
    (tmp_path / "rosfit.toml").write_text("port = ")
    with pytest.raises(SettingsError, match=r"rosfit\.toml cannot be read"):
        load_settings()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql:///d?host=/run/x&password=p", "postgresql:///d?host=/run/x&password=***"),
        ("redis://:p@h:6379/0", "redis://:***@h:6379/0"),
        ("mqtt://u:a@b:c@h:1883", "mqtt://u:***@h:1883"),
        ("s3://bucket?endpoint=http://h:9000", "s3://bucket?endpoint=http://h:9000"),
        ("mqtt://h", "mqtt://h"),
    ],
)
def test_masked_urls(url, shown):
    assert mask_url(url) == shown


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_every_setting_is_in_the_documentation():
    text = (Path(__file__).parents[1] / "docs/configuration.md").read_text()
    missing = [
        name
        for name in Settings.model_fields
        if f"`{name}`" not in text or f"ROSFIT_{name.upper()}" not in text
    ]
    assert not missing
