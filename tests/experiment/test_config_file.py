"""Config files that are not what they should be: one error, which says where."""

import functools

import pytest

from mmdiffusion_jax import experiment

GOOD = "from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({'a': 1})\n"


@pytest.fixture
def written(tmp_path):
    def write(text, name="config.py"):
        file = tmp_path / name
        file.write_text(text)
        return str(file)

    return write


def test_a_config_with_and_without_a_form(written, monkeypatch, tmp_path):
    assert experiment.read_config_file(written(GOOD)).a == 1
    formed = GOOD.replace("()", "(form='plain')").replace("1", "form")
    assert experiment.read_config_file(written(formed)).a == "plain"
    assert experiment.read_config_file(written(formed) + ":large//x:y").a == "large//x:y"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert experiment.read_config_file("~/config.py").a == "plain"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "without a function get_config, expected .*let it return a ConfigDict"),
        ("get_config = 3", "without a function get_config"),
        ("def get_config(:", r"config\.py, line 1 \(SyntaxError: "),
        ("\nimport no_such_module", r"line 2 \(ModuleNotFoundError: No module named 'no_such"),
        ("\n\n1 / 0", r"line 3 \(ZeroDivisionError"),
        ("def get_config():\n    return {}['a']", r"line 2 \(KeyError: 'a'\)"),
        ("def get_config():\n    raise ValueError('odd')", r"line 2 \(ValueError: odd\)"),
        ("def get_config():\n    x = y", r"line 2 \(NameError: name 'y'"),
        ("def get_config():\n    pass", "NoneType from get_config"),
        ("def get_config():\n    return {'a': 1}", "dict from get_config"),
        ("def get_config(form):\n    pass", r"without a form, expected what get_config\(form\)"),
    ],
)
def test_a_bad_file_is_one_error(written, text, words):
    with pytest.raises(ValueError, match=f"^`config`: got .*{words}") as caught:
        experiment.read_config_file(written(text))
    assert "\n" not in str(caught.value)


def test_a_form_that_is_not_taken(written):
    with pytest.raises(ValueError, match=r"the form 'x' of .*, expected what get_config\(\) takes"):
        experiment.read_config_file(written(GOOD) + ":x")


@pytest.mark.parametrize("place", ["", "no/such.py", ".", "gs://bucket/config.py", "~no-one/c.py"])
def test_no_file(place):
    with pytest.raises(ValueError, match=r"^`config`: got "):
        experiment.read_config_file(place)


def test_words_of_our_own_stay_as_they_are():
    with pytest.raises(ValueError, match=r"^`config form`: got 'smal'.*did you mean 'small'"):
        experiment.read_config_file("configs/image_label.py:smal")


@pytest.mark.parametrize("flag", [["--config", "configs/smoke.py"], ["--config=configs/smoke.py"]])
@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("backbone.precision", "dtype"),
        ("backbone.hidden_size", "width"),
        ("training.lr", "learning_rate"),
        ("training.epochs", "num_steps"),
        ("training.BatchSize", "batch_size"),
        ("training.num_step", "num_steps"),
        ("process.noise_schedule", "schedule"),
        ("lr", "training.learning_rate"),
        ("steps", "training.num_steps"),
        ("batch_size", "training.batch_size"),
        ("trainer", "training"),
        ("training.optimizer", "optimiser"),
    ],
)
def test_keys_by_other_names(flag, key, meant):
    words = experiment.unknown_override([*flag, f"--config.{key}=1"])
    assert words.endswith(f"did you mean '{meant}'?"), words


@pytest.mark.parametrize("key", ["sampling.guidance.label", "loss.dropout.label"])
def test_a_flag_adds_no_key_to_an_empty_section(key):
    words = experiment.unknown_override(["--config=digits", f"--config.{key}=2.0"])
    section = key.rpartition(".")[0]
    assert words == (
        f"`config.{key}`: got a flag, expected a key that the config file names, as flags add "
        f"none; write config.{section} = {{'label': …}} there."
    )


@pytest.mark.parametrize("is_package", [False, True])
def test_a_file_may_import_its_neighbours_of_its_own_folder(tmp_path, is_package):
    """Two folders have neighbours of the same name, and each file gets its own."""
    for number in (1, 2):
        folder = tmp_path / str(number) / "settings"
        folder.mkdir(parents=True)
        (folder / "shared.py").write_text(f"VALUE = {number}\n")
        if is_package:
            (folder / "__init__.py").write_text("")
        line = "from settings import shared" if is_package else "import shared"
        text = GOOD.replace("1", "shared.VALUE")
        (folder / "mine.py").write_text(f"{line}\n{text}")
        assert experiment.read_config_file(str(folder / "mine.py")).a == number


def test_a_bad_neighbour_is_named(written):
    file = written("import no_such_neighbour\n" + GOOD, "other.py")
    with pytest.raises(ValueError, match=r"other\.py, line 1 \(ModuleNotFoundError"):
        experiment.read_config_file(file)


def test_a_function_that_a_file_may_lack():
    ask = functools.partial(experiment.call_in_file, mend="return a dict", form_is_optional=True)
    assert "rotary" in ask("configs/recipe.py:cifar", "get_variants", otherwise={})
    assert ask("configs/smoke.py", "get_variants", otherwise={}) == {}
    with pytest.raises(ValueError, match="without a function get_variants"):
        ask("configs/smoke.py", "get_variants")
