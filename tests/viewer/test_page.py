"""The page: the packed splat, the document, the page in Chromium, and what the server gives and refuses."""

from __future__ import annotations

import gzip
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch

from datasets.errors import InputError
from recon3d.gaussians import Gaussians
from recon3d.paths import from_json
from recon3d.pictures import draw
from recon3d.splats import Splat, save_splat
from recon3d.viewing import ViewedSplat, open_for_viewing
from tests.recon3d.conftest import FittedRun, coloured_blobs, fitted_run
from viewer.__main__ import main
from viewer.layers import BoxesLayer, CamerasLayer, SplatLayer
from viewer.page import write_html
from viewer.page.build import document
from viewer.page.packing import first_chunk, frame_chunk
from viewer.page.serve import Page, make_server
from viewer.reading import Contents, open_all
from viewer.splats import installed_openers
from viewer.stage import FRAMES_BETWEEN, Stage
from viewer.viewpoint import Viewpoint

__all__ = ["fitted_run"]
SIZE = (320, 240)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of two uint8 images."""
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


def with_harmonics(degree: int) -> Splat:
    """Blobs whose colour depends on where one looks from, and a far one of large size."""
    blobs = coloured_blobs(200)
    random = torch.Generator().manual_seed(degree)
    higher = 0.25 * torch.randn(201, (degree + 1) ** 2 - 1, 3, generator=random)
    far = {"means": [[0.0, -30, 120]], "scales": [[3.0, 3, 1]], "quats": [[1.0, 0, 0, 0]], "opacities": [2.0]}
    parts = {
        name: torch.cat([value, torch.tensor(far[name])]) for name, value in blobs.parameters().items() if name in far
    }
    sh0 = torch.cat([blobs.sh0, torch.ones(1, 1, 3)])
    return Splat(Gaussians(**parts, sh0=sh0, shN=higher), (0.2, 0.3, 0.4), antialiased=degree == 3)


def opened(splat: Splat) -> Contents:
    """Contents with one splat."""
    return Contents([SplatLayer("blobs", ViewedSplat(splat, (Path("splat.ply"),)), lambda: None)])


VIEW = Viewpoint(np.array([1.0, -1.0, -4.0]), np.zeros(3), np.array([0.0, -1, 0]), 40.0)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_page_draws_what_the_rasteriser_draws(tab: Any, tmp_path: Path, degree: int) -> None:
    splat = with_harmonics(degree)
    write_html(opened(splat), tmp_path / "page.html", VIEW)
    tab.visit((tmp_path / "page.html").as_uri(), *SIZE)
    shown = tab.pixels()
    expected = draw(splat, VIEW.camera(*SIZE)).colour.numpy() * 255
    assert shown.shape == (240, 320, 3)
    assert psnr(shown, expected) > 38
    assert tab.complaints == []
    requests = [url for url in tab.requests if not url.startswith(("data:", "blob:"))]
    assert requests == [(tmp_path / "page.html").as_uri()]


def test_mouse_wheel_keys_and_layers(tab: Any, fitted_run: FittedRun, tmp_path: Path) -> None:
    contents = open_all([fitted_run.folder], installed_openers())
    write_html(contents, tmp_path / "page.html")
    tab.visit((tmp_path / "page.html").as_uri(), 640, 480)
    before, camera = tab.pixels(), tab.value("view3d.then(v => JSON.stringify(v.camera))")

    tab.drag((200, 240), (300, 240))
    turned = tab.pixels()
    assert psnr(before, turned) < 25
    eye = [json.loads(camera)["eye"], json.loads(tab.value("view3d.then(v => JSON.stringify(v.camera))"))["eye"]]
    target = np.array(json.loads(camera)["target"])
    distances = [np.linalg.norm(np.array(one) - target) for one in eye]
    assert distances[0] == pytest.approx(distances[1])
    assert np.linalg.norm(np.subtract(*eye)) > 0.3 * distances[0]

    tab.call("Input.dispatchMouseEvent", type="mouseWheel", x=200, y=200, deltaX=0, deltaY=-300)
    near = json.loads(tab.value("view3d.then(v => JSON.stringify([v.camera.distance]))"))[0]
    assert near < 0.9 * distances[0]
    tab.call("Input.dispatchKeyEvent", type="keyDown", key="t", text="t")
    tab.drag((200, 240), (260, 200))
    upright = json.loads(tab.value("view3d.then(v => JSON.stringify(v.camera))"))["up"]
    assert upright == pytest.approx(contents.up.tolist())
    tab.call("Input.dispatchKeyEvent", type="keyDown", key="r", text="r")
    assert psnr(before, tab.pixels()) > 45

    ticks = "document.querySelectorAll('#layers input[type=checkbox]')"
    tab.value(f"{ticks}[0].click()")
    without = tab.pixels()
    assert psnr(before, without) < 25
    tab.value(f"{ticks}[1].click()")
    empty = tab.pixels()
    assert (empty == empty[0, 0]).all()
    tab.value(f"{ticks}[0].click()")
    assert psnr(before, tab.pixels()) > 40

    select = "document.querySelector('[name$=\"/show\"]')"
    for mode in ("depth", "normals"):
        tab.value(f"{select}.value = '{mode}'; {select}.onchange()")
        assert psnr(before, tab.pixels()) < 20
    assert tab.complaints == []


def test_through_a_photos_camera(tab: Any, fitted_run: FittedRun, tmp_path: Path) -> None:
    contents = open_all([fitted_run.folder], installed_openers())
    write_html(contents, tmp_path / "page.html")
    tab.visit((tmp_path / "page.html").as_uri(), 288, 216)
    tab.value("document.querySelector('#photo').value = '2'; document.querySelector('#photo').onchange()")
    shown = tab.pixels()
    splat = open_for_viewing(fitted_run.folder)
    cameras = contents.cameras
    assert splat is not None
    assert isinstance(cameras, CamerasLayer)
    expected = splat.render(cameras.cameras[2], 288, 216).image * 255
    assert psnr(shown, expected) > 30
    tab.value("document.querySelector('#blend').value = 1; document.querySelector('#blend').oninput()")
    assert tab.value("document.querySelector('#over').hidden") is False
    middle = tab.value("[...document.querySelector('#over').getContext('2d').getImageData(144, 108, 1, 1).data].join()")
    photo = cameras.photo(2)[27, 36] * 255
    assert np.abs(np.array(middle.split(",")[:3], float) - photo).max() < 40
    tab.drag((50, 50), (60, 60))
    assert tab.value("document.querySelector('#over').hidden") is True


def test_a_kept_path_is_the_windows(tab: Any, scene_folder: Path, tmp_path: Path) -> None:
    contents = open_all([scene_folder], [])
    contents.scene_to_source = np.diag([2.0, 2, 2, 1])
    contents.scene_to_source[:3, 3] = [5e6, 4e6, 100]
    write_html(contents, tmp_path / "page.html", VIEW)
    tab.visit((tmp_path / "page.html").as_uri(), *SIZE)
    stage = Stage(contents, start=VIEW)
    for key in "wteb":
        tab.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        tab.call("Input.dispatchKeyEvent", type="keyDown", key="k", text="k")
        stage.key(key)
        stage.keep_view()
    stage.save_path(tmp_path / "path.json", *SIZE)
    expected = from_json(tmp_path / "path.json", contents.scene_to_source)
    (tmp_path / "page.json").write_text(tab.value("view3d.then(v => JSON.stringify(pathOf(v)))"))
    found = from_json(tmp_path / "page.json", contents.scene_to_source)
    assert len(found) == 3 * FRAMES_BETWEEN + 1
    assert found.size == SIZE
    assert torch.allclose(found.world_to_camera, expected.world_to_camera, atol=2e-4)
    assert torch.allclose(found.intrinsics, expected.intrinsics, rtol=1e-5)
    assert tab.complaints == []


def test_points_boxes_moments_and_measuring(tab: Any, tmp_path: Path) -> None:
    clouds = tmp_path / "clouds"
    clouds.mkdir()
    grid = np.stack(np.meshgrid(np.arange(-3, 4), np.arange(-3, 4), [0]), -1).reshape(-1, 3).astype(np.float32)
    np.save(clouds / "first.npy", grid)
    np.save(clouds / "second.npy", grid + np.float32([0, 0, 1]))
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"boxes": [[0, 0, 0, 2, 1, 1, 0], [2, 2, 0, 2, 1, 1, 0]], "scores": [0.9, 0.1]}))
    contents = open_all([clouds, boxes], [])
    assert isinstance(contents.layers[1], BoxesLayer)
    contents.layers[0].size = 6.0  # type: ignore[attr-defined]
    start = Viewpoint(np.array([0.0, -0.01, 10]), np.zeros(3), np.array([0.0, 0, 1]), 50.0)
    write_html(contents, tmp_path / "page.html", start, frame=1)
    tab.visit((tmp_path / "page.html").as_uri(), 400, 400)
    assert tab.value("document.querySelector('#frame-name').textContent") == "second"
    last = tab.pixels()
    tab.call("Input.dispatchKeyEvent", type="keyDown", key="]", text="]")
    tab.value("view3d.then(v => new Promise(d => { const w = () => v.frame === 0 ? d(1) : setTimeout(w, 20); w(); }))")
    first = tab.pixels()
    assert psnr(first, last) < 40
    blue = (np.abs(first.astype(int) - [0, 158, 224]).sum(axis=2) < 30).sum()
    slider = "document.querySelector('[name$=\"boxes/score\"]')"
    tab.value(f"{slider}.value = 0.5; {slider}.oninput()")
    fewer = (np.abs(tab.pixels().astype(int) - [0, 158, 224]).sum(axis=2) < 30).sum()
    assert 0.3 * blue < fewer < 0.7 * blue
    tab.value(f"{slider}.value = 0; {slider}.oninput()")

    tab.value("document.querySelector('#frame').value = 1; document.querySelector('#frame').oninput()")
    tab.value("view3d.then(v => new Promise(d => { const w = () => v.frame === 1 ? d(1) : setTimeout(w, 20); w(); }))")
    assert tab.value("document.querySelector('#frame-name').textContent") == "second"
    assert psnr(last, tab.pixels()) > 60

    focal = 200 / np.tan(np.radians(25))
    for x in (0, 2):
        place = {"x": 200 + focal * x / 9, "y": 200, "button": "left", "buttons": 1, "clickCount": 2}
        tab.value(f"document.querySelector('#view').ondblclick({{offsetX: {place['x']}, offsetY: 200}})")
    measured = tab.value("document.querySelector('#measure').textContent")
    assert float(measured.split()[0]) == pytest.approx(2, rel=0.01)
    assert tab.complaints == []


def test_a_later_moment_far_from_the_first_is_not_clipped_away(tab: Any, tmp_path: Path) -> None:
    clouds = tmp_path / "clouds"
    clouds.mkdir()
    for i in range(2):
        np.save(clouds / f"{i}.npy", np.random.default_rng(i).normal([200.0 * i, 0, 0], 2, (3000, 3)))
    near_the_second = Viewpoint(np.array([200.0, -12, 0]), np.array([200.0, 0, 0]), np.array([0.0, 0, 1]), 50.0)
    write_html(open_all([clouds], []), tmp_path / "page.html", near_the_second, frame=1)
    tab.visit((tmp_path / "page.html").as_uri(), *SIZE)
    seen = tab.pixels()
    assert (np.abs(seen.astype(int) - seen[0, 0]).sum(axis=2) > 30).mean() > 0.05
    assert tab.complaints == []


def walls(*depths: float) -> list[SplatLayer]:
    """A splat for each depth: a wall of wide opaque Gaussians across the z axis, red, green, ..."""
    layers = []
    for i, depth in enumerate(depths):
        y, x = np.mgrid[-2:2.1:0.5, -2:2.1:0.5].reshape(2, -1)
        means = torch.from_numpy(np.stack([x, y, np.full_like(x, depth)], 1)).float()
        count = len(means)
        colour = torch.full((count, 1, 3), -1.5)
        colour[:, :, i] = 1.5
        gaussians = Gaussians(
            means,
            torch.tensor([[-0.7, -0.7, -4.0]]).expand(count, 3),
            torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4),
            torch.full((count,), 8.0),
            colour,
            torch.zeros(count, 0, 3),
        )
        layers.append(SplatLayer(f"wall {i}", ViewedSplat(Splat(gaussians), (Path(f"{i}.ply"),)), lambda: None))
    return layers


@pytest.mark.parametrize("depths", [(3.0, 6.0), (6.0, 3.0)])
def test_of_two_splats_the_nearer_is_seen(tab: Any, tmp_path: Path, depths: tuple[float, float]) -> None:
    contents = Contents(list(walls(*depths)))
    start = Viewpoint(np.zeros(3), np.array([0.0, 0, 3]), np.array([0.0, -1, 0]), 40.0)
    write_html(contents, tmp_path / "page.html", start)
    tab.visit((tmp_path / "page.html").as_uri(), *SIZE)
    middle = tab.pixels()[120, 160].astype(int)
    near = int(np.argmin(depths))
    assert middle[near] > middle[1 - near] + 100


def test_depth_has_colours_from_inside_a_scene(tab: Any, tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(3000, 3, generator=random), dim=1)
    means = directions * (2 + 4 * torch.rand(3000, 1, generator=random))
    blobs = coloured_blobs(3000)
    parts = {**blobs.parameters(), "means": means, "scales": torch.full((3000, 3), -2.0)}
    contents = opened(Splat(Gaussians(**{**parts, "opacities": torch.full((3000,), 4.0)})))
    contents.layers[0].show = "depth"  # type: ignore[attr-defined]
    start = Viewpoint(np.zeros(3), np.array([0.0, 0, 1]), np.array([0.0, -1, 0]), 70.0)
    write_html(contents, tmp_path / "page.html", start)
    tab.visit((tmp_path / "page.html").as_uri(), *SIZE)
    assert tab.pixels().reshape(-1, 3).std(axis=0).max() > 12


def test_names_from_files_stay_text(tab: Any, tmp_path: Path) -> None:
    name = "</script><img src=x onerror=\"document.title='run'\">.ply"
    contents = opened(with_harmonics(0))
    contents.layers[0].name = name
    write_html(contents, tmp_path / "page.html", VIEW)
    tab.visit((tmp_path / "page.html").as_uri(), *SIZE)
    assert tab.value("document.title") == name
    assert tab.value("document.querySelector('legend').textContent").strip() == name
    assert tab.complaints == []


def test_a_damaged_page_says_so(tab: Any, tmp_path: Path) -> None:
    write_html(opened(with_harmonics(0)), tmp_path / "page.html", VIEW)
    text = (tmp_path / "page.html").read_text()
    at = text.index('id="chunk-0">') + 2000
    (tmp_path / "page.html").write_text(text[:at] + "AAAAAAAA" + text[at + 8 :])
    tab.call("Page.navigate", url=(tmp_path / "page.html").as_uri())
    told = "new Promise(d => { const w = () => { const m = document.querySelector('#message'); "
    told += "if (m && !m.hidden) d(m.textContent); else setTimeout(w, 50); }; w(); })"
    assert "cannot be shown" in tab.value(told)


def test_packed_splats_are_small_and_exact() -> None:
    random = torch.Generator().manual_seed(0)
    count = 20_000
    gaussians = Gaussians(
        means=torch.randn(count, 3, generator=random) * torch.tensor([1.0, 1, 400]),
        scales=torch.randn(count, 3, generator=random) - 4,
        quats=torch.randn(count, 4, generator=random),
        opacities=torch.randn(count, generator=random),
        sh0=torch.randn(count, 1, 3, generator=random),
        shN=torch.zeros(count, 0, 3),
    )
    chunk = first_chunk(opened(Splat(gaussians)).layers)
    assert len(chunk) < 20 * count  # of noise; real splats compress further
    raw = gzip.decompress(chunk)
    length = int.from_bytes(raw[:4], "little")
    contents = json.loads(raw[4 : 4 + length])
    splat = contents["layers"][0]["splat"]
    decoded = []
    for axis in range(3):
        kind, start, size = contents["arrays"][splat["means"][axis]]
        assert kind == "u1"
        planes = np.frombuffer(raw, np.uint8, size, start).reshape(3, count).astype(np.float64)
        share = (planes[0] + 256 * planes[1] + 65536 * planes[2]) / 8388607.5 - 1
        decoded.append(splat["centre"][axis] + splat["unit"] * np.sinh(share * splat["reach"][axis]))
    got, means = np.sort(np.stack(decoded), axis=1), np.sort(gaussians.means.double().numpy().T, axis=1)
    assert (np.abs(got - means) < 2e-6 * (np.abs(means) + splat["unit"])).all()


def test_an_empty_splat_and_a_wrong_suffix(tmp_path: Path) -> None:
    none = Splat(coloured_blobs(1)[:0])
    assert "chunk-1" in document(opened(none), VIEW, chunks=[first_chunk(opened(none).layers), b""])
    with pytest.raises(InputError, match=r"written as \.html"):
        write_html(opened(none), tmp_path / "page.txt")


def test_layers_are_left_as_they_were(sweep: Callable[..., Path]) -> None:
    layer = open_all([sweep(np.ones((5, 4)))], []).layers[0]
    before = {setting.name: getattr(layer, setting.name) for setting in layer.settings}
    frame_chunk([layer], 0)
    assert {setting.name: getattr(layer, setting.name) for setting in layer.settings} == before


# Serving


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A server for a splat at the address that the test asks for."""
    save_splat(tmp_path / "splat.ply", with_harmonics(0))
    contents = open_all([tmp_path / "splat.ply"], installed_openers())
    server, address = make_server(contents, getattr(request, "param", "127.0.0.1"), 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server, address, tmp_path / "splat.ply"
    server.shutdown()
    server.server_close()
    thread.join()


def get(server: ThreadingHTTPServer, path: str, host: str | None = None, method: str = "GET") -> tuple[int, bytes, Any]:
    """Status, body and headers of a request, with the path just as it is."""
    port = server.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{port}")
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


def test_the_served_page_shows_the_same(tab: Any, served: Any) -> None:
    _, address, path = served
    tab.visit(address, *SIZE)
    before = tab.pixels()
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 100
    assert tab.complaints == []
    assert all(url.startswith((address, "blob:")) for url in tab.requests)
    splat = with_harmonics(0)
    save_splat(path, Splat(splat.gaussians[:100], splat.background))
    layer = "document.querySelector('#layers fieldset')"
    show = f"{layer}.querySelector('select[name$=\"/show\"]')"
    tab.value(f"{show}.value = 'normals'; {show}.onchange()")
    tab.value("document.querySelector('#keep').onclick()")
    tab.value("window.old = true")
    deadline = time.monotonic() + 30
    while tab.value("window.old === true || typeof view3d !== 'object'"):
        assert time.monotonic() < deadline, "the page does not show the new file"
        time.sleep(0.2)
    tab.value("view3d.then(() => 1)")
    assert tab.value(f"{show}.value") == "normals"
    assert tab.value("document.querySelector('#path').textContent") == "Save path (1)"
    tab.value(f"{show}.value = 'colour'; {show}.onchange()")
    assert 12 < psnr(before, tab.pixels()) < 40  # from the same place, with fewer Gaussians


def test_servers_are_told_apart_and_one_splat_that_fails_hides_no_other(tmp_path: Path) -> None:
    for name in "ab":
        save_splat(tmp_path / f"{name}.ply", with_harmonics(0))
    contents = open_all([tmp_path / "a.ply", tmp_path / "b.ply"], installed_openers())
    one, other = Page(contents, None, 0), Page(contents, None, 0)
    assert one.version() != other.version()
    first = one.version()
    splat = with_harmonics(0)
    save_splat(tmp_path / "a.ply", Splat(splat.gaussians[:100], splat.background))
    (tmp_path / "b.ply").write_bytes(b"ply half")
    assert one.version() != first
    assert isinstance(contents.layers[0], SplatLayer)
    assert len(contents.layers[0].splat.parameters()["means"]) == 100


def test_a_moment_that_cannot_be_used_is_said_and_the_rest_goes_on(tab: Any, tmp_path: Path) -> None:
    clouds = tmp_path / "clouds"
    clouds.mkdir()
    for i in range(3):
        np.save(clouds / f"{i}.npy", np.random.default_rng(i).normal(size=(500, 3)))
    (clouds / "1.npy").write_bytes(b"")
    server, address = make_server(open_all([clouds], []), port=0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        tab.visit(address, *SIZE)
        told = "new Promise(d => { const w = () => { const t = document.querySelector('#frame-name').textContent;"
        told += " if (t.includes('WORD')) d(t); else setTimeout(w, 20); }; w(); })"
        set_frame = "document.querySelector('#frame').value = N; document.querySelector('#frame').oninput()"
        tab.value(set_frame.replace("N", "1"))
        assert "is not a numpy array" in tab.value(told.replace("WORD", "1.npy"))
        tab.value(set_frame.replace("N", "2"))
        tab.value(
            "view3d.then(v => new Promise(d => { const w = () => v.frame === 2 ? d(1) : setTimeout(w, 20); w(); }))"
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/etc/passwd",
            "/../../etc/passwd",
            "//etc/passwd",
            "/chunk/../../../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
        ),
        *(
            "/chunk/2",
            "/chunk/-1",
            "/chunk/1e0",
            "/chunk/%D9%A3",
            "/chunk/99999999999",
            "/splat.ply",
        ),
        *("/static/main.js", "/chunk/", "/version/", "*", "http://127.0.0.1/", "/?x"),
    ],
)
def test_nothing_but_the_page_is_served(served: Any, path: str) -> None:
    status, body, _ = get(served[0], path)
    assert status == 404
    assert b"root:" not in body


def test_headers_hosts_and_methods(served: Any) -> None:
    server = served[0]
    status, body, headers = get(server, "/")
    assert status == 200
    assert b"connect-src 'self'" in body
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers
    assert get(server, "/chunk/0")[0] == get(server, "/chunk/1")[0] == get(server, "/version")[0] == 200
    for host in ("evil.example", f"evil.example:{server.server_address[1]}", "127.0.0.1", ""):
        assert get(server, "/chunk/0", host or " ")[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert get(server, "/", method=method)[0] == 501


@pytest.mark.parametrize("served", ["0.0.0.0"], indirect=True)
def test_beyond_this_machine_a_token_is_needed(served: Any) -> None:
    server, address, _ = served
    token = urlsplit(address).path
    assert len(token) > 32
    other = "y" if token[1] == "x" else "x"
    assert get(server, "/")[0] == get(server, "/chunk/0")[0] == get(server, f"/{other}{token[2:]}")[0] == 404
    assert get(server, token)[0] == get(server, f"{token}chunk/0")[0] == 200
    assert get(server, token, host="any.example")[0] == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--host", "example.org"), "IP address"),
        (("--host", "::1"), "IPv4"),
        (("--port", "70000"), "0 to 65535"),
        (("--host", "203.0.113.7"), "cannot serve at"),
    ],
)
def test_addresses_that_cannot_be_served(
    scene_folder: Path, options: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(scene_folder), "--web", *options]) == 1
    assert message in capsys.readouterr().err


def test_html_on_the_command_line(fitted_run: FittedRun, tmp_path: Path) -> None:
    assert main([str(fitted_run.folder), "--html", str(tmp_path / "a.html")]) == 0
    assert (tmp_path / "a.html").stat().st_size < 200_000
