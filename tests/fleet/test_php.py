"""The warnings of PHP for extensions that cannot be loaded are those of a real PHP, to the last letter (failures 38)."""

from __future__ import annotations

import pytest

from analyzers.finding import State
from analyzers.start import NO_OVERRIDES
from tests.conftest import absent
from tests.engine import Engine
from tests.fleet.engine_words import profile_of
from tests.fleet.foretold import Foreteller
from tests.fleet.image import Layer
from tests.fleet.run import in_threads, load, run
from tests.make.elves import ToolAbsent
from tests.make.images import Image
from tests.make.layers import file, tar_of
from tests.make.php import CONF, EXTENSIONS, root
from tests.make.roots import multiarch

LIBZIP = f"usr/lib/{multiarch()}/libzip.so.4"
CASES: dict[str, Layer | None] = {
    "all_is_there": None,
    "libzip_removed": Layer({}, (LIBZIP,)),
    "extension_removed": Layer({}, (f"{EXTENSIONS}/calendar.so",)),
    "an_extension_nobody_has": Layer({f"{CONF}/30-x.ini": file("extension=imagick\n")}),
    "a_zend_extension_nobody_has": Layer({f"{CONF}/30-x.ini": file('zend_extension="xdebug.so"\n')}),
    "an_extension_by_its_path": Layer({f"{CONF}/30-x.ini": file("extension=/srv/gone.so\n")}),
    "an_extension_turned_off": Layer({f"{CONF}/30-x.ini": file(";extension=imagick\n")}),
}
pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("fleet"), pytest.mark.timeout(300)]


def test_row_38_php_warns_and_goes_on_as_foretold(engine: Engine) -> None:
    try:
        base = tar_of(root())
    except ToolAbsent as error:
        absent(str(error))
    images = {
        id: Image(layers=(base, *(() if layer is None else (layer.tar(),))), cmd=("php", "-r", 'fwrite(STDOUT, "hello\\n");'))
        for id, layer in CASES.items()
    }
    load(engine, {f"php/{id}:1": image for id, image in images.items()})
    ran = dict(zip(CASES, in_threads(lambda id: run(engine, f"php/{id}:1", f"php-{id}"), CASES), strict=True))
    foreteller, profile = Foreteller(), profile_of(engine)
    warned: list[str] = []
    for id, image in images.items():
        report = foreteller.image(image, profile, NO_OVERRIDES)
        assert report.verdict.state is State.STARTS, (id, report.verdict)
        assert ran[id].exit_code == 0
        said = [line for line in (ran[id].stderr + ran[id].stdout).splitlines() if "oading" in line or "Unable to load" in line]
        told = [each.message for each in report.findings if each.rule == "php.extension-unloadable"]
        assert len(told) == len({line.partition(": ")[2] for line in said}), (id, ran[id], told)
        warned += [id] * bool(told)
        for message in told:
            assert all(line.endswith(message) for line in said), (id, ran[id], message)
    assert [id for id in CASES if "hello" not in ran[id].stdout] == []
    assert sorted({*CASES} - {*warned}) == ["all_is_there", "an_extension_turned_off"]
    assert "libzip.so.4: cannot open shared object file" in ran["libzip_removed"].stdout + ran["libzip_removed"].stderr
