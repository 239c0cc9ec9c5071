"""Label configs, as short as tests want them."""

from prelabel.integrations.label_studio.label_config import LabelConfig

IMAGE = '<Image name="img" value="$image"/>'


def view(*tags):
    return f"<View>{''.join(tags)}</View>"


def choices(*values, name="cls", to="img", **attributes):
    extra = "".join(f' {key}="{value}"' for key, value in attributes.items())
    inside = "".join(f'<Choice value="{value}"/>' for value in values)
    return f'<Choices name="{name}" toName="{to}"{extra}>{inside}</Choices>'


def only(xml):
    return LabelConfig.parse(xml).control()


NESTED = (
    '<Choices name="cls" toName="img" {extra}>'
    '<Choice value="Animal" alias="A"><Choice value="Cat"/><Choice value="Dog" alias="d"/></Choice>'
    '<Choice value="Blue"/></Choices>'
)

REGIONS = '<RectangleLabels name="box" toName="img"><Label value="Car"/><Label value="Bus"/></RectangleLabels>'
