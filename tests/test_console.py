"""What is said while work goes on, and what is not."""

from qkd.core.console import hushed, say, set_quiet


def test_a_silence_ends_where_it_began(capsys):
    @hushed()
    def quietly():
        say("unheard")

    set_quiet(False)
    quietly()
    quietly()
    say("heard")
    assert capsys.readouterr().err == "heard\n"
    set_quiet(True)
    quietly()
    say("unheard still")
    set_quiet(False)
    assert capsys.readouterr().err == ""
