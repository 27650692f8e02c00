# A tray icon of the old kind, of one colour with a see-through edge. It says what is done to it, and does what its
# standard input says.
import sys
import gi
gi.require_version("Gtk", "3.0")
gi.require_version("GdkPixbuf", "2.0")
from gi.repository import GdkPixbuf, GLib, Gtk

def picture(colour):
    pixels = GdkPixbuf.Pixbuf.new(GdkPixbuf.Colorspace.RGB, True, 8, 32, 32)
    pixels.fill(0)
    pixels.new_subpixbuf(8, 8, 16, 16).fill(colour)
    return pixels

def say(words):
    print(words, flush=True)

icon = Gtk.StatusIcon()
icon.set_title("Count 0")
icon.set_from_pixbuf(picture(0x2080c0ff))
icon.connect("activate", lambda _: say("activated"))
icon.connect("button-press-event", lambda _, e: say("pressed %d" % e.button))
menu = Gtk.Menu()
entry = Gtk.MenuItem(label="Quit")
entry.connect("activate", lambda _: say("chosen"))
menu.append(entry)
menu.show_all()
icon.connect("popup-menu", lambda i, button, time: menu.popup(None, None, Gtk.StatusIcon.position_menu, i, button, time))

def order(source, _):
    words = source.readline().split()
    if not words:
        Gtk.main_quit()
        return False
    if words[0] == "title":
        icon.set_title(" ".join(words[1:]))
    elif words[0] == "colour":
        icon.set_from_pixbuf(picture(int(words[1], 16)))
    else:
        icon.set_visible(words[0] == "show")
    return True

GLib.io_add_watch(sys.stdin, GLib.IO_IN | GLib.IO_HUP, order)
Gtk.main()
