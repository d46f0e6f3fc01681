"""The leaderboard can be looked at as well as read."""


def test_the_leaderboard_is_also_a_page(api):
    page = api("GET", "/v1/leaderboard/page")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "What listeners prefer" in page.text


def test_the_leaderboard_can_be_of_one_study(api):
    assert api("GET", "/v1/leaderboard", params={"study": "spring"}).json()["study"] == "spring"
    assert api("GET", "/v1/leaderboard", params={"study": "x" * 200}).status_code == 422
