import pytest

from mcp_server.engine.western_text import WORDS, WesternWords, likely_encodings

WESTERN = {
    "French": "René Hélène François Geneviève Benoît Zoë Anaïs Jérôme forêt où Noël cœur château à Été CAFÉ ÉTÉ",
    "German": "Jürgen Größe Müller Würzburg Schröder Ägypten Österreich Straße MÜNCHEN",
    "Spanish": "José Muñoz Peña Iñaki Álvaro García Núñez ¿Qué? ¡Hola! ESPAÑA MÉXICO CAÑÓN",
    "Portuguese": "João Gonçalves São Antônio corações Magalhães Inês AÇÃO",
    "Italian": "Nicolò città più perché lunedì caffè",
    "Danish": "Sørensen Kjær Åse Bjørn Østergaard Ægir",
    "Norwegian": "Bodø Tromsø",
    "places": "Curaçao Réunion Côte d’Ivoire Åland Gießen São Tomé Türkiye Mbappé Agüero naïve façade jalapeño",
    "Swedish": "Åke Sjöberg Malmö Björklund",
    "Finnish": "Hämäläinen Mäki Jyväskylä",
    "Dutch": "Zoë Coöperatie België",
    "one name": "José",
    "signs": "O’Neal “José” €5 20°C 5m² 1º – é",
}
OTHERS = [
    ("cp1251", "Иван Ольга"), ("cp1251", "имя"), ("cp1251", "да нет"), ("cp1251", "А Б В"), ("cp1251", "Київ"),
    ("koi8-r", "Иван Москва"), ("cp866", "Иван Москва"), ("iso-8859-5", "Иван"), ("mac-cyrillic", "Иван"),
    ("cp1253", "Γιώργος"), ("iso-8859-7", "Νίκος Αθήνα"), ("cp1255", "דוד משה"), ("iso-8859-8", "דוד"),
    ("cp1256", "محمد"), ("cp874", "สมชาย"), ("cp1258", "Nguyễn"),
    ("shift_jis", "田中 東京"), ("shift_jis", "日本"), ("shift_jis", "テスト"), ("euc-jp", "田中"),
    ("gb18030", "王 北京"), ("big5", "王小明"), ("euc-kr", "김 이름"),
    ("cp1250", "Dončić Jokić"), ("cp1250", "Jokić"), ("cp1250", "Dončić"), ("cp1250", "Dvořák Jiří"),
    ("cp1250", "Vučković"), ("cp1250", "Łukasz"), ("cp1250", "Gdańsk"), ("cp1250", "Michał"), ("cp1250", "Erdős Győr"),
    ("cp1250", "Růžička"), ("cp1250", "Kamiński"),
    ("cp1250", "Częstochowa"), ("cp1250", "Băsescu"), ("cp1250", "Plzeň"), ("cp1250", "Žižkov"),
    ("iso-8859-2", "Łódź Kraków"), ("iso-8859-2", "Dončić"), ("iso-8859-2", "Šarić"), ("cp852", "Łódź Dvořák"),
    ("cp1254", "İbrahim Şener"), ("cp1254", "Yıldız"), ("cp1254", "Çağlar"), ("iso-8859-9", "Aydın"),
    ("cp1257", "Porziņģis Bertāns"), ("cp1257", "Valančiūnas"), ("cp775", "Rīga"),
    ("mac-roman", "André"), ("mac-roman", "Müller"), ("mac-roman", "Muñoz"), ("mac-roman", "García"),
    ("cp437", "André"), ("cp437", "Müller"), ("cp850", "Jörg José"), ("cp850", "Muñoz"),
]  # fmt: skip


def is_western(data: bytes) -> bool:
    words = WesternWords()
    words.add(WORDS.findall(data))
    return words.are_western


@pytest.mark.parametrize("language", WESTERN)
def test_western_text_is_recognised(language: str) -> None:
    assert is_western(WESTERN[language].encode("cp1252"))


@pytest.mark.parametrize(("encoding", "text"), OTHERS)
def test_other_text_is_never_taken_for_western(encoding: str, text: str) -> None:
    assert not is_western(("name\n" + text.replace(" ", "\n")).encode(encoding, "ignore"))


@pytest.mark.parametrize("data", [b"\xff\xfe\xfa", b"caf\xc3\xa9 \xff", b"\xc0\xaf\xc0\xae", b"caf\xc3\xa9"])
def test_damaged_utf8_is_never_taken_for_western(data: bytes) -> None:
    assert not is_western(data)


def test_one_foreign_word_is_enough_to_refuse() -> None:
    assert not is_western((WESTERN["French"] + " ").encode("cp1252") + "Gdańsk".encode("cp1250"))


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "имя,город\nИван,Москва\nОльга,Тула\n"),
        ("koi8-r", "имя,город\nИван,Москва\nОльга,Тула\n"),
        ("cp866", "имя,город\nИван,Москва\nОльга,Тула\n"),
        ("iso-8859-2", "a\nŁódź\nDončić\n"),
        ("big5", "名字\n王小明\n"),
    ],
)
def test_the_likely_encodings_are_named(encoding: str, text: str) -> None:
    assert encoding in likely_encodings(text.encode(encoding))
