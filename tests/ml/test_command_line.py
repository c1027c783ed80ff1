"""The command that a card or a report names: it can be run again, and tells nothing of the folders around."""

import shlex

import pytest
from django.core.management import load_command_class


def command_line(arguments: str) -> str:
    name, *rest = shlex.split(arguments)
    command = load_command_class("breeds", name)
    command.options = vars(command.create_parser("manage.py", name).parse_args(rest))
    return command.command_line()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (
            "train transfer --dataset /a/dogs.tar --weights /c/w.h5 --out /d/run --image-size 224 --verbosity 2",
            "train transfer --dataset dogs.tar --out run --weights w.h5",
        ),
        (
            "train transfer --reviews '/a/our dogs' --out run/ --fine-tune 224:6 --fine-tune=288:1 --weights none",
            "train transfer --reviews 'our dogs' --out run --weights none --fine-tune 224:6 --fine-tune 288:1",
        ),
        (
            "train cnn --from-reviews --out run --breeds 'pug, whippet' --no-augment --learning-rate 1e-05 --seed 3",
            "train cnn --from-reviews --out run --breeds 'pug, whippet' --seed 3 --learning-rate 1e-05 --no-augment",
        ),
        (
            "train fine-tune --augment --layers 3 --teacher /a/t --fewer-breeds /b/f --config /c/best.json --out run",
            "train fine-tune --out run --fewer-breeds f --augment --config best.json --layers 3 --teacher t",
        ),
        (
            "tune head --dataset /a/dogs --out /b/search --breeds 'pug, whippet' --trials 3 --weights /c/w.h5",
            "tune head --dataset dogs --out search --breeds 'pug, whippet' --trials 3 --weights w.h5",
        ),
        (
            "preprocess /a/dogs.tar '/b/small dogs' --size 32 --steps none --download --pythonpath /c",
            "preprocess dogs.tar 'small dogs' --size 32 --steps none --download",
        ),
        ("preprocess /b/out --from-reviews --seed 0", "preprocess out --from-reviews"),
        (
            "evaluate /a/run /b/dogs --without-dog /c/cats --split all --out '/d/my report'",
            "evaluate run dogs --split all --without-dog cats --out 'my report'",
        ),
        (
            "repredict --shadow --model 0123456789ab --filter animal=Max/Rex --filter 'animal=Big Rex'",
            "repredict --model 0123456789ab --shadow --filter animal=Max/Rex --filter 'animal=Big Rex'",
        ),
        ("compare /a/one '/b/number two' --out /c/page", "compare one 'number two' --out page"),
        ("explore /a/dogs --out /b/page", "explore dogs --out page"),
    ],
)
def test_it_names_every_option_that_was_chosen_and_no_folder(typed, expected):
    assert command_line(typed) == f"manage.py {expected}"
    assert command_line(expected) == f"manage.py {expected}"
