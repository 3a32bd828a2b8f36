"Settings: the shipped file, and every way in which a settings file can be wrong."
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from voicelab.settings import (
    GROUPS,
    AudioGenerationConfig,
    GenerationParams,
    QualityThresholds,
    ReferencePolicy,
    Settings,
    SettingsError,
    find_settings,
    read_settings,
)

ROOT = Path(__file__).parent.parent
DESIGNED = {        # in *Voice Cloning Optimization Design*
    "AUDIO_GENERATION_CONFIG": {"adaptive_max_tokens": True, "base_tokens_per_second": 25, "max_silence_tokens": 50,
                                "duration_buffer_factor": 1.5, "min_tokens": 64, "max_tokens": 512},
    "QUALITY_THRESHOLDS": {"max_duration_ratio": 3.0, "max_silence_ratio": 0.3, "min_audio_length": 1.0,
                           "max_audio_length": 30.0},
    "GENERATION_PARAMS": {"temperature": 0.3, "top_k": 50, "top_p": 0.95, "do_sample": True, "use_cache": True},
}


@pytest.fixture
def write(tmp_path):
    "Write a settings file and return its path."
    def write(text, name="settings.ini"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path
    return write


def refusal(path):
    "The one line with which the file at `path` is refused."
    with pytest.raises(SettingsError) as caught: read_settings(path)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text
    return text


@pytest.mark.parametrize("section", DESIGNED)
def test_built_in_defaults_hold_the_values_of_the_document(section):
    values = asdict(GROUPS[section]())
    assert {key: values[key] for key in DESIGNED[section]} == DESIGNED[section]
    assert all(type(values[key]) is type(value) for key, value in DESIGNED[section].items())


def test_shipped_file_equals_the_built_in_defaults_and_names_every_key():
    path = ROOT / "settings.ini"
    assert read_settings(path) == Settings()
    for kind in GROUPS.values():
        for item in fields(kind): assert f"\n{item.name} = " in path.read_text()


def test_without_a_file_the_built_in_defaults_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = read_settings()
    assert settings == Settings() and settings.source == "built-in defaults"


def test_nearest_file_upwards_is_read_and_foreign_ones_are_passed_over(tmp_path, monkeypatch):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "settings.ini").write_text("[GENERATION_PARAMS]\ntop_k = 7\n")
    (tmp_path / "a" / "settings.ini").write_bytes(b"[DEFAULT]\nlib_name = \xff\n= broken\n")
    (inner / "settings.ini").mkdir()
    monkeypatch.chdir(inner)
    assert read_settings().generation.top_k == 7
    assert find_settings(inner) == tmp_path / "settings.ini"
    assert read_settings().source == str(tmp_path / "settings.ini")
    (inner / "settings.ini").rmdir()
    (inner / "settings.ini").write_text("[GENERATION_PARAMS]\ntop_k = 8\n")
    assert read_settings().generation.top_k == 8


@pytest.mark.parametrize("section", ["GENERATION_PARAM", "generation_params", " GENERATION_PARAMS ", 
                                     "Quality_Threshold", "AUDIO-GENERATION-CONFIG", "GENERATION PARAMS"])
def test_a_misspelt_section_in_the_current_folder_is_refused(write, tmp_path, monkeypatch, section):
    path = write(f"# mine\n[{section}]\ntop_k = 7\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as caught: read_settings()
    assert str(caught.value) == f"{path}: unknown section [{section}]: known are {', '.join(GROUPS)}"
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert read_settings().source == "built-in defaults"


@pytest.mark.parametrize("section", ["DEFAULT", "settings", "general", "generator", "audio", "tool:pytest"])
def test_a_section_of_another_project_is_passed_over(write, tmp_path, monkeypatch, section):
    write(f"[{section}]\ntop_k = 7\n")
    monkeypatch.chdir(tmp_path)
    assert read_settings().source == "built-in defaults"


def test_a_byte_order_mark_does_no_harm(write, tmp_path, monkeypatch):
    path = write("[GENERATION_PARAMS]\ntop_k = 7\n".encode("utf-8-sig"))
    monkeypatch.chdir(tmp_path)
    assert read_settings().generation.top_k == read_settings(path).generation.top_k == 7


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_refused_whether_named_or_found(write, tmp_path, monkeypatch, encoding):
    path = write("[GENERATION_PARAMS]\ntop_k = 7  # größer\n".encode(encoding))
    monkeypatch.chdir(tmp_path)
    for given in (path, None):
        with pytest.raises(SettingsError, match="UTF-8") as caught: read_settings(given)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_consent_is_required_where_a_file_says_so(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_settings().references == ReferencePolicy() == ReferencePolicy(require_consent=False)
    write("[REFERENCE_POLICY]\nrequire_consent = yes\n")
    assert read_settings().references.require_consent is True and find_settings() == tmp_path / "settings.ini"
    assert "unknown section [reference_policy]" in refusal(write("[reference_policy]\nrequire_consent = yes\n"))


@pytest.mark.parametrize("text, value", [("true", True), ("Yes", True), ("on", True), ("1", True), ("FALSE", False),
                                         ("0", False)])
def test_booleans(write, text, value):
    assert read_settings(write(f"[GENERATION_PARAMS]\ndo_sample = {text}")).generation.do_sample is value


def test_values_take_their_own_type_and_comments_are_dropped(write):
    lines = "# top", "[AUDIO_GENERATION_CONFIG]", "min_seconds = 4 ; least", "MAX_TOKENS: 300 # most", "rule = fixed"
    group = read_settings(write("\n".join(lines))).audio_generation
    assert (group.min_seconds, type(group.min_seconds), group.max_tokens, group.rule) == (4.0, float, 300, "fixed")


@pytest.mark.parametrize("section, line, said", [
    ("GENERATION_PARAMS", "temprature = 0.5", "unknown key 'temprature'"),
    ("GENERATION_PARAMS", "temperature = hot", "temperature = 'hot': must be a number from 0.01 to 10"),
    ("GENERATION_PARAMS", "temperature = nan", "temperature = nan"),
    ("GENERATION_PARAMS", "temperature = inf", "temperature = inf"),
    ("GENERATION_PARAMS", "temperature = -1", "temperature = -1.0"),
    ("GENERATION_PARAMS", "temperature =", "temperature = ''"),
    ("GENERATION_PARAMS", "top_p = 1.5", "top_p = 1.5: must be a number from 0.01 to 1"),
    ("GENERATION_PARAMS", "top_k = 2.5", "top_k = '2.5': must be a whole number"),
    ("GENERATION_PARAMS", "do_sample = maybe", "do_sample = 'maybe': must be true or false"),
    ("GENERATION_PARAMS", "do_sample = 2", "do_sample = '2'"),
    ("GENERATION_PARAMS", "use_cache = false", "use_cache = False: must be true"),
    ("QUALITY_THRESHOLDS", "max_silence_ratio = 30", "max_silence_ratio = 30.0: must be a number from 0 to 1"),
    ("QUALITY_THRESHOLDS", "min_audio_length = 40", "min_audio_length = 40.0: may not exceed max_audio_length = 30.0"),
    ("AUDIO_GENERATION_CONFIG", "max_tokens = 32", "min_tokens = 64: may not exceed max_tokens = 32"),
    ("AUDIO_GENERATION_CONFIG", "max_tokens = 1000000", "max_tokens = 1000000"),
    ("REFERENCE_POLICY", "require_consent = perhaps", "require_consent = 'perhaps': must be true or false"),
    ("REFERENCE_POLICY", "consent = true", "unknown key 'consent': known are require_consent"),
    ("AUDIO_GENERATION_CONFIG", "rule = guess", "must be one of words_per_minute, reference_rate, fixed"),
    ("AUDIO_GENERATION_CONFIG", "max_tokens = 1\n 2", r"max_tokens = '1\n2'"),
])
def test_bad_values_are_refused_in_one_line_naming_section_and_key(write, section, line, said):
    text = refusal(write(f"[{section}]\n{line}\n"))
    assert said in text and f"[{section}]" in text


@pytest.mark.parametrize("text, said", [
    ("[GENERATION]\ntop_k = 5", "unknown section [GENERATION]"),
    ("[DEFAULT]\ntop_k = 5\n[GENERATION_PARAMS]\n", "unknown section [DEFAULT]"),
    ("top_k = 5", "no section headers"),
    ("[GENERATION_PARAMS]\ntop_k", "top_k"),
    ("[GENERATION_PARAMS]\ntop_k = 1\ntop_k = 2", "top_k"),
    ("[GENERATION_PARAMS]\n[GENERATION_PARAMS]", "GENERATION_PARAMS"),
    (b"[GENERATION_PARAMS]\ntop_k = \xff\xfe", "UTF-8"),
])
def test_broken_files_are_refused_in_one_line(write, text, said):
    assert said in refusal(write(text))


def test_missing_file_and_folder_are_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.ini")
    assert "directory" in refusal(tmp_path)


def test_an_empty_file_given_by_hand_means_the_defaults(write):
    assert read_settings(write("# nothing changed\n")) == Settings()


@pytest.mark.parametrize("make, said", [
    (lambda: GenerationParams(top_k="50"), "top_k = '50'"),
    (lambda: GenerationParams(do_sample=1), "do_sample = 1"),
    (lambda: GenerationParams(temperature=None), "temperature = None"),
    (lambda: AudioGenerationConfig(rule=None), "rule = None"),
    (lambda: QualityThresholds(max_silence_ratio=True), "max_silence_ratio = True"),
])
def test_groups_made_in_code_are_checked_alike(make, said):
    with pytest.raises(SettingsError, match=said): make()


def test_the_table_shows_every_key_and_is_escaped():
    shown = Settings(source="<b>")._repr_html_()
    assert all(item.name in shown for kind in GROUPS.values() for item in fields(kind)) and "&lt;b&gt;" in shown
